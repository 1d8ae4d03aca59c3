"""What grounded decoding costs, and which of vLLM's grammar backends it should go through.

    python workflows/benchmarks/grounding.py --captions cc3m.tsv

One thread, no model: only the tokenizer of the embedded one. For each caption its expression is
written; each backend compiles it, and then allows tokens step by step along an answer, as it does
in the engine. The medians over the rounds are shown, in captions a second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import regex

if __name__ == "__main__":
    # The repository, not this folder, so that nothing here hides a library.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from parsing.errors import UserError
from parsing.grounding import Form, answer_regex
from parsing.groups import groups

FORM = Form()


def longest_answer(caption: str) -> str:
    """An answer that names all that can be named, for the backends to follow; rarely none."""
    items = []
    for group in groups(caption):
        if group.kind == "noun" and not any(word.droppable or word.linked for word in group.words):
            marks = [
                FORM.end
                if word is group.words[-1]
                else FORM.attribute
                if word.describes and not word.degree
                else ""
                if word.names or word.degree
                else FORM.attribute
                for word in group.words
            ]
            words = (f" {w.text}{mark}" for w, mark in zip(group.words, marks, strict=True))
            items.append("".join(words))
        else:
            items.append(f" {FORM.skip}{FORM.end}")
    answer = "".join(items)
    return answer if regex.fullmatch(answer_regex(caption, FORM) or "", answer) else ""


class Guidance:
    """llguidance, as vLLM's `backend_guidance` drives it."""

    def __init__(self, tokenizer: Any):
        import llguidance
        import llguidance.hf
        import llguidance.torch

        self._llguidance = llguidance
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, len(tokenizer))
        self._mask = llguidance.torch.allocate_token_bitmask(1, self._tokenizer.vocab_size)

    def compile(self, expression: str) -> Any:
        grammar = self._llguidance.grammar_from("regex", expression)
        # vLLM validates a request where it comes in and compiles it once more in the engine.
        if error := self._llguidance.LLMatcher.validate_grammar(grammar, self._tokenizer):
            raise ValueError(error)
        return self._llguidance.LLMatcher(self._tokenizer, grammar)

    def follow(self, matcher: Any, tokens: Sequence[int]) -> bool:
        for token in tokens:
            self._llguidance.torch.fill_next_token_bitmask(matcher, self._mask, 0)
            if not matcher.consume_token(token):
                return False
        return True


class Xgrammar:
    """xgrammar, as vLLM's `backend_xgrammar` drives it."""

    def __init__(self, tokenizer: Any):
        import xgrammar

        self._xgrammar = xgrammar
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer))
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._mask = xgrammar.allocate_token_bitmask(1, len(tokenizer))

    def compile(self, expression: str) -> Any:
        self._xgrammar.Grammar.from_regex(expression)  # the validation
        return self._xgrammar.GrammarMatcher(self._compiler.compile_regex(expression))

    def follow(self, matcher: Any, tokens: Sequence[int]) -> bool:
        for token in tokens:
            matcher.fill_next_token_bitmask(self._mask, 0)
            if not matcher.accept_token(token):
                return False
        return True


BACKENDS = {"guidance": Guidance, "xgrammar": Xgrammar}


def rate(work: Callable[[], Any], items: int, rounds: int) -> float:
    """Median over the rounds, in items a second."""
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        rates.append(items / (time.perf_counter() - start))
    return statistics.median(rates)


def measure(captions: Sequence[str], tokenizer: Any, rounds: int) -> dict[str, dict[str, float]]:
    """Captions a second of each step, per backend, and how often a real answer was refused.

    Args:
        captions: those without a word that could be a tag are left out.
        tokenizer: a fast Hugging Face tokenizer.
        rounds: how often each step is measured.
    """
    pairs = [(caption, answer_regex(caption, FORM)) for caption in captions]
    pairs = [(caption, expression) for caption, expression in pairs if expression is not None]
    answers = [
        tokenizer.encode(longest_answer(caption), add_special_tokens=False) for caption, _ in pairs
    ]
    writing = rate(
        lambda: [answer_regex(caption, FORM) for caption, _ in pairs], len(pairs), rounds
    )
    results = {"answer_regex": {"captions/s": writing}}
    for name, backend_class in BACKENDS.items():
        backend = backend_class(tokenizer)
        compiling = rate(lambda b=backend: [b.compile(e) for _, e in pairs], len(pairs), rounds)
        refused = 0

        def answering(b=backend):
            nonlocal refused
            refused = sum(
                not b.follow(b.compile(expression), tokens)
                for (_, expression), tokens in zip(pairs, answers, strict=True)
            )

        both = rate(answering, len(pairs), rounds)
        results[name] = {"compile/s": compiling, "captions/s": both, "refused": refused}
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", required=True, help="a TSV of url<TAB>caption")
    parser.add_argument("--limit", type=int, default=500, help="captions per round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per step")
    flags = parser.parse_args(arguments)
    try:
        from transformers import AutoTokenizer

        from parsing.embedded_model import embedded_model

        try:
            text = Path(flags.captions).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the captions {flags.captions}: {error}") from error
        captions = [line.rpartition("\t")[2] for line in text.splitlines()[: flags.limit]]
        if not captions:
            raise UserError(f"there are no captions in {flags.captions}")
        tokenizer = AutoTokenizer.from_pretrained(embedded_model())
        results = measure(captions, tokenizer, flags.rounds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(captions)} captions, medians of {flags.rounds} rounds, one thread\n")
    for name, figures in results.items():
        row = "  ".join(f"{value:12,.0f} {unit}" for unit, value in figures.items())
        print(f"{name:14s}{row}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
