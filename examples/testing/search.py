"""The program under test: it finds the articles that answer a question."""

from collections.abc import Sequence

from jina_rerank import APIStatusError, RerankClient, SyncRerankClient


def answers(client: SyncRerankClient, question: str, articles: Sequence[str]) -> list[str]:
    """Return the two best articles, or the first two if reranking fails."""
    try:
        return client.rerank(question, articles, top_n=2).documents
    except APIStatusError:
        return list(articles[:2])


async def answer(client: RerankClient, question: str, articles: Sequence[str]) -> str:
    """Return the best article."""
    response = await client.rerank(question, articles, top_n=1)
    return response.documents[0]
