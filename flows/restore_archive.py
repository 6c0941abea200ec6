"""The flow: search, plan, restore in batches, verify what was written, sum up.

Prefect shows the run; what is finished is known by the ledger alone, so Prefect's own cache and stored results stay off.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import batched
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import work
from flows.settings import Archive
from flows.work import BatchResult, Pace, Plan, Summary
