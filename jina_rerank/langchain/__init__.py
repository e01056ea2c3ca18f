"""JinaRerank for LangChain, a replacement for `langchain_community.document_compressors.JinaRerank`.

Needs the extra `langchain`. docs/langchain.md lists the differences.
"""

try:
    from .compressor import JinaRerank
    from .items import Item, Ranked
    from .runnable import RerankInput
except ModuleNotFoundError as _error:
    raise ImportError('JinaRerank needs langchain-core: pip install "jina-rerank[langchain]"') from _error

__all__ = ["Item", "JinaRerank", "Ranked", "RerankInput"]
