"""Names of classes: the release's, several of a class, words for the background, and a user's own."""

from __future__ import annotations

import pytest

from common.errors import UserError
from eval.datasets.benchmark_list import BENCHMARKS, open_benchmark
from eval.datasets.class_names import ClassNames, class_names
from tests.eval.datasets.miniatures import MINIATURES
from tests.eval.datasets.test_benchmark_list import own_folder


def opened(name, tmp_path):
    MINIATURES[name](tmp_path)
    return open_benchmark(name, tmp_path)


@pytest.mark.parametrize("name", ["voc", "voc20", "context", "context59"])
def test_the_releases_names_are_mmsegmentations_one_word_names(name, tmp_path):
    benchmark = opened(name, tmp_path)
    plain, release = (class_names(benchmark, one).all for one in ("plain", "release"))
    changed = {p: r for p, r in zip(plain, release, strict=True) if p != r}
    expected = {"potted plant": "pottedplant", "tv monitor": "tvmonitor"}
    if name.startswith("voc"):
        expected["dining table"] = "diningtable"
    assert changed == expected


@pytest.mark.parametrize("name", ["imagenet_s50", "imagenet_s300"])
def test_the_releases_names_of_imagenet_s_are_wordnets(name, tmp_path):
    benchmark = opened(name, tmp_path)
    names = class_names(benchmark, "release").names
    assert len(names) == len(benchmark.names)
    by_synset = dict(zip(benchmark.synsets, names, strict=True))
    assert by_synset["n01440764"] == ("tench",)
    assert by_synset["n01494475"] == ("hammerhead",)  # open_clip's: hammerhead shark
    assert by_synset["n01530575"] == ("brambling",)
    assert class_names(benchmark, "plain").all == benchmark.names


def test_a_class_may_have_several_names_and_the_background_words(tmp_path):
    names = class_names(opened("voc", tmp_path), "sclip", "words")
    assert len(names.names) == 20
    assert len(names.words) == 26
    assert names.words[0] == "sky"
    person = names.names[14]
    assert person[0] == "person"
    assert len(person) > 1
    assert len(names.all) == len(names.owners)
    for owner, name in zip(names.owners, names.all, strict=True):
        assert name in (names.words if owner == -1 else names.names[owner])


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("which", ["plain", "release", "sclip"])
def test_every_benchmark_has_names_in_every_list(name, which, tmp_path):
    benchmark = opened(name, tmp_path)
    names = class_names(benchmark, which)
    assert len(names.names) == len(benchmark.names)
    assert not names.words


def test_a_benchmark_without_background_needs_no_words(tmp_path):
    assert not class_names(opened("voc20", tmp_path), "plain", "words").words


def test_a_users_benchmark_may_name_both(tmp_path):
    own_folder(tmp_path)
    with open(tmp_path / "benchmark.yaml", "a") as file:
        file.write("names: {cup: [cup, mug], key: door key}\nbackground_words: [table, wall]\n")
    benchmark = open_benchmark(str(tmp_path), tmp_path)
    assert class_names(benchmark, "release", "words") == ClassNames(
        (("cup", "mug"), ("door key",)), ("table", "wall")
    )
    assert not class_names(benchmark).words


def test_a_users_files_name_both(tmp_path):
    own_folder(tmp_path)
    (tmp_path / "names.yaml").write_text(
        f"{tmp_path.name}: {{cup: [cup, mug]}}\nvoc: {{cat: kitten}}\n"
    )
    (tmp_path / "words.txt").write_text("table\n\n wall \n")
    benchmark = open_benchmark(str(tmp_path), tmp_path)
    found = class_names(benchmark, str(tmp_path / "names.yaml"), str(tmp_path / "words.txt"))
    assert found == ClassNames((("cup", "mug"), ("key",)), ("table", "wall"))


@pytest.mark.parametrize(
    ("names", "words", "message"),
    [
        ("[a, b]", None, "is not names by benchmark and class"),
        ("NAME: [cup]", None, "is not names by benchmark and class"),
        ("NAME: {cup: []}", None, "is not names by benchmark and class"),
        ("NAME: {cup: [mug, no]}", None, "quote yes, no"),
        ("NAME: {cap: hat}", None, "has no class 'cap'"),
        ("a: [", None, "is not YAML"),
        (None, None, r"cannot read .*names.yaml \(--names\)"),
        ("{}", " \n", "holds no words"),
        ("{}", "MISSING", "--background is threshold, words or a file"),
    ],
)
def test_files_that_are_no_names_are_one_sentence(names, words, message, tmp_path):
    own_folder(tmp_path)
    if names is not None:
        (tmp_path / "names.yaml").write_text(names.replace("NAME", f'"{tmp_path.name}"'))
    if words not in (None, "MISSING"):
        (tmp_path / "words.txt").write_text(words)
    benchmark = open_benchmark(str(tmp_path), tmp_path)
    background = "threshold" if words is None else str(tmp_path / "words.txt")
    with pytest.raises(UserError, match=message) as caught:
        class_names(benchmark, str(tmp_path / "names.yaml"), background)
    assert "\n" not in str(caught.value)


def test_words_that_nobody_wrote_are_asked_for(tmp_path):
    own_folder(tmp_path)
    with pytest.raises(UserError, match="there are no words for the background of Mine"):
        class_names(open_benchmark(str(tmp_path), tmp_path), "plain", "words")
