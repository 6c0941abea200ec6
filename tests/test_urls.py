"""URLs hold no secrets, and neither does anything that is said of them."""

from __future__ import annotations

import pytest

from audiorestore.audio.urls import Url, is_url, scrubbed
from audiorestore.errors import ConfigError


@pytest.mark.parametrize("text", ["s3://bucket/tapes/", "sftp://host:2222/tapes", "HTTPS://host/list.txt"])
def test_a_place_keeps_its_name(text):
    url = Url.parse(text)
    assert is_url(text)
    assert str(url) == text.rstrip("/").replace("HTTPS", "https")
    assert url.writable == text.startswith("s")


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:hunter2@bucket/tapes",
        "sftp://archivist:hunter2@host/tapes",
        "sftp://hunter2@host/tapes",
        "http://host/list.txt?token=hunter2",
        "http://host/list.txt#hunter2",
        "ftp://archivist:hunter2@host/tapes",
        "http://archivist:hunter2@host:port/",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_said(text):
    with pytest.raises(ConfigError) as refused:
        Url.parse(text)
    assert "hunter2" not in str(refused.value)
    assert "expected" in str(refused.value)


def test_secrets_are_taken_out_of_words_and_nothing_else():
    words = "404, url='https://me:pw@host/a b.wav?X-Amz-Signature=abc' and s3://key:pw@bucket/c@d.wav, mail me@host"
    assert scrubbed(words) == "404, url='https://host/a b.wav' and s3://bucket/c@d.wav, mail me@host"


@pytest.mark.parametrize("text", ["/tapes", "tapes", "C:\\tapes", "a:/b"])
def test_paths_are_no_urls(text):
    assert not is_url(text)
