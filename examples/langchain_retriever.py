"""Rerank the results of a LangChain vector store, in a retriever and in a chain.

Needs the extra `langchain`, langchain-classic and numpy.
"""

from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from jina_rerank.langchain import JinaRerank

TEXTS = ["A recipe for onion soup.", "How to change a bicycle tyre.", "Soft tyres wear early.", "Bold lipsticks."]
# The embeddings are meaningless, so the order comes from the reranker alone.
store = InMemoryVectorStore.from_texts(TEXTS, DeterministicFakeEmbedding(size=32))
found = store.as_retriever(search_kwargs={"k": 4})
reranker = JinaRerank(top_n=2)

retriever = ContextualCompressionRetriever(
    base_compressor=DocumentCompressorPipeline(transformers=[reranker]), base_retriever=found
)
print("retriever:", [document.page_content for document in retriever.invoke("change a flat tyre")])


def show(documents: list[Document]) -> str:
    return "\n".join(f"  {document.metadata['relevance_score']:6.3f} {document.page_content}" for document in documents)


chain = {"query": RunnablePassthrough(), "documents": found} | reranker.as_runnable() | RunnableLambda(show)
print("chain:", chain.invoke("change a flat tyre"), sep="\n")
