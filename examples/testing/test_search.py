"""Tests of search.py: with the emulator, with a fault, and with recorded responses of the API."""

import asyncio

import pytest
from search import answer, answers

from jina_rerank import RerankClient, SyncRerankClient
from jina_rerank.testing import JinaEmulator

ARTICLES = ["How to cook onion soup", "How to change a bicycle tyre", "Tyre pressure, explained"]


def test_the_best_two(jina_emulator: JinaEmulator, sync_rerank_client: SyncRerankClient) -> None:
    assert set(answers(sync_rerank_client, "flat bicycle tyre", ARTICLES)) == set(ARTICLES[1:])
    (request,) = jina_emulator.requests
    assert request.query == "flat bicycle tyre"
    assert request.documents == ARTICLES
    assert request.top_n == 2


def test_without_the_api(jina_emulator: JinaEmulator, sync_rerank_client: SyncRerankClient) -> None:
    jina_emulator.fail_next("403")
    assert answers(sync_rerank_client, "flat bicycle tyre", ARTICLES) == ARTICLES[:2]
    assert jina_emulator.requests[0].status == 403


def test_awaited(rerank_client: RerankClient) -> None:
    assert asyncio.run(answer(rerank_client, "change a bicycle tyre", ARTICLES)) == ARTICLES[1]


@pytest.mark.rerank_recorded
def test_recorded(sync_rerank_client: SyncRerankClient) -> None:
    assert answers(sync_rerank_client, "how do I change a bicycle tyre?", ARTICLES)[0] == ARTICLES[1]
