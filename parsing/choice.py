"""Which parser a command asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.errors import UserError
from common.flags import setting
from parsing.endpoint.server import Server
from parsing.fake_parser import FakeConfig
from parsing.parser import ParserConfig

PARSERS = ("llm", "nltk", "spacy", "tag2text", "fake")


@dataclass(frozen=True)
class ParserChoice:
    """Flags that choose and set up a parser."""

    model: str | None = setting(
        None,
        "vicuna-33b (default with GPUs), tagalign-135m (default without: the student that comes with "
        "the project), smollm2, a hub id, or a local folder",
        metavar="NAME",
    )
    revision: str | None = setting(None, "of a model on the hub")
    prompt: str | None = setting(
        None,
        "a file of prompts/, or a path; default is the one that the model was trained with, else "
        "`default`",
        metavar="NAME",
    )
    constraint: str | None = setting(
        None,
        "words holds answers to the caption's own words while they are written; none drops other "
        "words when an answer is read. Default none for a model that was trained for the task, "
        "words for any other",
        choices=("none", "words"),
    )
    tensor_parallel: int | None = setting(
        None, "GPUs that one engine spans; default is the preset's, else 1", metavar="N"
    )
    batch: int = setting(256, "concurrent sequences (max_num_seqs) of one engine", metavar="N")
    batch_invariant: bool = setting(
        False,
        "answers that don't depend on what else is in the batch, by vLLM's kernels for it: the same rows "
        "from every run on cards of one kind; slower, GPUs only",
    )
    engine: tuple[str, ...] = setting(
        (),
        "any other argument of vLLM's engine, such as quantization=fp8; may be given again",
        metavar="KEY=VALUE",
        action="append",
    )
    endpoint: str | None = setting(
        None,
        "an OpenAI-compatible server to ask instead of engines of one's own; --batch is then the "
        "captions asked about at once, and OPENAI_API_KEY holds the key, if it wants one",
        metavar="URL",
    )
    endpoint_model: str | None = setting(None, "the server's name of the model", metavar="NAME")
    endpoint_timeout: float = setting(
        Server.timeout, "seconds that one request may take", metavar="S"
    )
    max_caption_tokens: int = setting(256, "longer captions get the status too_long", metavar="N")
    device: str = setting(
        "auto", "auto takes GPUs where the cluster has some", choices=("auto", "gpu", "cpu")
    )
    parser: str = setting("llm", "fake needs no model and tries out a cluster", choices=PARSERS)
    tag_list: str | None = setting(
        None, "tag2text: the tags it may give, one a line", metavar="FILE"
    )
    fake_seconds: float = setting(0.0, "fake: time per caption, seconds", metavar="S")
    fake_poison: str | None = setting(
        None, "fake: a caption that holds this word kills its parser", metavar="WORD"
    )
    cpus_per_actor: float | None = setting(
        None,
        "cores of one engine; default all of a node, one where a GPU computes",
        metavar="N",
    )

    def config(self, has_gpus: Callable[[], bool]) -> ParserConfig:
        """The parser's configuration.

        Args:
            has_gpus: asked only where the flags leave the device open.

        Raises:
            UserError: a flag that the parser needs is missing, or a value is out of its range.
        """
        if self.parser != "llm" and self.endpoint is not None:
            raise UserError(
                f"--endpoint is asked by the LLM parser, and --parser {self.parser} needs none"
            )
        if self.parser == "nltk":
            from parsing.baselines.nltk_parser import NltkConfig

            return NltkConfig()
        if self.parser == "spacy":
            from parsing.baselines.spacy_parser import SpacyConfig

            return SpacyConfig()
        if self.parser == "tag2text":
            from parsing.baselines.tag2text_parser import Tag2TextConfig

            if self.tag_list is None:
                raise UserError("--parser tag2text needs --tag-list FILE: one tag a line")
            return Tag2TextConfig(tag_list=self.tag_list)
        if self.parser == "fake":
            return FakeConfig(seconds=self.fake_seconds, poison=self.fake_poison)
        if self.endpoint is not None:
            return self._endpoint()
        if self.endpoint_model is not None:
            raise UserError(
                "--endpoint-model names a model of a server: give --endpoint URL as well"
            )
        return self._llm(has_gpus)

    def _endpoint(self) -> ParserConfig:
        from parsing.endpoint.parser import EndpointConfig

        if self.endpoint_model is None:
            raise UserError(
                "--endpoint needs --endpoint-model NAME: the server's name of the model"
            )
        for name in ("model", "revision", "tensor_parallel", "batch_invariant", "engine"):
            if getattr(self, name):
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} is about an engine of one's own, and --endpoint has none")
        server = Server(
            self.endpoint,
            self.endpoint_model,
            batch=self.batch,
            timeout=self.endpoint_timeout,
        )
        return EndpointConfig(server, self.prompt, self.constraint, self.max_caption_tokens)

    def _llm(self, has_gpus: Callable[[], bool]) -> ParserConfig:
        from parsing.llm import student
        from parsing.llm.models import find_model
        from parsing.llm.parser import LLMConfig

        gpu = {"auto": has_gpus, "gpu": lambda: True, "cpu": lambda: False}[self.device]()
        name = self.model or ("vicuna-33b" if gpu else student.NAME)
        return LLMConfig(
            model=find_model(name, self.revision, self.tensor_parallel),
            prompt=self.prompt,
            constraint=self.constraint,
            max_caption_tokens=self.max_caption_tokens,
            gpu=gpu,
            cpus=self.cpus_per_actor,
            batch=self.batch,
            batch_invariant=self.batch_invariant,
            engine=self.engine,
        )
