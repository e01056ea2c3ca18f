"""`python -m jina_rerank`: the command line."""

from .cli import main

main()
