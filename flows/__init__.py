"""Archives as Prefect flows: many files, resumable, on this machine or on workers.

`flows.work` does everything and knows nothing of Prefect; `flows.restore_archive` shows it to Prefect as a flow and its
tasks; ``python -m flows`` runs that from a terminal.
"""
