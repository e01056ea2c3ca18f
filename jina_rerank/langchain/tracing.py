"""A separate run in LangChain's traces for each ranking."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_async_callback_manager_for_config, get_callback_manager_for_config


@contextmanager
def traced(documents: Sequence[Document], query: str, config: RunnableConfig) -> Generator[dict[str, Any]]:
    """Trace a run with query and candidates, and the outputs put into the yielded dict, or the error."""
    manager = get_callback_manager_for_config(config)
    run = manager.on_chain_start(None, _inputs(documents, query), name=_name(config), run_id=config.get("run_id"))
    outputs: dict[str, Any] = {}
    try:
        yield outputs
    except BaseException as error:
        run.on_chain_error(error)
        raise
    run.on_chain_end(outputs)


@asynccontextmanager
async def atraced(documents: Sequence[Document], query: str, config: RunnableConfig) -> AsyncGenerator[dict[str, Any]]:
    manager = get_async_callback_manager_for_config(config)
    run = await manager.on_chain_start(None, _inputs(documents, query), name=_name(config), run_id=config.get("run_id"))
    outputs: dict[str, Any] = {}
    try:
        yield outputs
    except BaseException as error:
        await run.on_chain_error(error)
        raise
    await run.on_chain_end(outputs)


def _inputs(documents: Sequence[Document], query: str) -> dict[str, Any]:
    return {"query": query, "documents": documents}


def _name(config: RunnableConfig) -> str:
    return config.get("run_name") or "JinaRerank"
