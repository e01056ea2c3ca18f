"""Compare rerankers on your own queries, and choose `top_n` and a score threshold.

from jina_rerank import RerankClient
from jina_rerank.evaluation import evaluate, write_report

contenders = {"v3.5": RerankClient(), "v2": RerankClient(model="jina-reranker-v2-base-multilingual")}
evaluation = evaluate("scifact/", contenders)
write_report(evaluation, "out/")

It needs the extra [eval].
"""

try:
    from .evaluating import ORDER_GIVEN, evaluate
    from .quality import MEASURES, Measure
    from .reading import read_topics
    from .report import report
    from .results import Comparison, ContenderResult, Evaluation, Verdict
    from .running import Run
    from .statistics import Estimate
    from .thresholds import Threshold, TopN
    from .topics import Passage, Topic, sample
    from .writing import write_report
except ModuleNotFoundError as _error:
    raise ImportError('jina_rerank.evaluation needs an extra: pip install "jina-rerank[eval]"') from _error

__all__ = [
    "MEASURES",
    "ORDER_GIVEN",
    "Comparison",
    "ContenderResult",
    "Estimate",
    "Evaluation",
    "Measure",
    "Passage",
    "Run",
    "Threshold",
    "TopN",
    "Topic",
    "Verdict",
    "evaluate",
    "read_topics",
    "report",
    "sample",
    "write_report",
]
