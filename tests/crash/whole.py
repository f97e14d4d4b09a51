"""The whole corpus: the entries of every module, which add themselves when it is imported."""

from __future__ import annotations

from tests.crash import conversations, corpus, methods, queued, steering

MODULES = (corpus, conversations, methods, queued, steering)

CORPUS = corpus.CORPUS
