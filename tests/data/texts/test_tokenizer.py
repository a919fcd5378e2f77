import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.tokenizer import KeptTokenizer, TextTokenizer, load_tokenizer
from mhe_jax.data.texts.word_pieces import train_word_pieces

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


@pytest.fixture(scope="module")
def bert():
    """[CLS] text [SEP]."""
    return train_word_pieces([" ".join(WORDS)] * 3, 120)


@pytest.fixture(scope="module")
def xlnet():
    """Special tokens behind the text only: text <sep> <cls>."""
    words = {name: i for i, name in enumerate(["<pad>", "<unk>", "<sep>", "<cls>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [("<sep>", 2), ("<cls>", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <sep> <cls>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", cls_token="<cls>", padding_side="left"
    )


@pytest.fixture(scope="module")
def plain():
    """No special tokens at all."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, **{name: i + 1 for i, name in enumerate(WORDS)}}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def texts_of(*lengths):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, n)) for n in lengths]


def rows(tokenizer, texts):
    tokens, counts, cut = tokenizer(texts)
    assert tokens.dtype == np.int32
    assert counts.dtype == np.int64
    return [row.tolist() for row in np.split(tokens, np.cumsum(counts)[:-1])], cut.tolist()


@pytest.mark.parametrize("kind", ["bert", "xlnet", "plain"])
@pytest.mark.parametrize("max_length", [3, 8, 50])
def test_raw_is_what_transformers_makes_of_a_text(kind, max_length, request):
    tokenizer = request.getfixturevalue(kind)
    texts = [*texts_of(1, 5, 6, 7, 8, 9, 40, 500), "unknown ALPHA  \t beta", " " * 1000 + "eta"]
    expected = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    found, cut = rows(TextTokenizer(tokenizer, max_length, "raw"), texts)
    assert found == expected
    assert cut == [len(row) > max_length for row in tokenizer(texts)["input_ids"]]


@pytest.mark.parametrize("kind", ["bert", "xlnet"])
@pytest.mark.parametrize("max_length", [3, 8, 50])
def test_the_reference_rule_is_that_of_a_loop(kind, max_length, request):
    tokenizer = request.getfixturevalue(kind)
    texts = [*texts_of(1, 5, 6, 7, 8, 9, 40, 500), "ALPHA  \t Beta\n eta", "", "  \t "]
    expected = []
    for text in texts:
        text = " ".join(text.lower().split()[:max_length]) or "filling empty"
        if kind == "xlnet":  # a tokenizer of transformers', which truncates itself
            expected.append(tokenizer(text, truncation=True, max_length=max_length)["input_ids"])
            continue
        ids = tokenizer(text)["input_ids"]
        if len(ids) > max_length:
            ids[max_length - 1] = ids[-1]
        expected.append(ids[:max_length])
    assert rows(TextTokenizer(tokenizer, max_length, "reference"), texts)[0] == expected


def test_an_empty_text_is_its_special_tokens_or_one_zero(bert, plain):
    assert rows(TextTokenizer(bert, 8, "raw"), ["", "  "])[0] == [[2, 3], [2, 3]]
    assert rows(TextTokenizer(plain, 8, "raw"), ["", "alpha"])[0] == [[0], [1]]
    tokens, counts, cut = TextTokenizer(bert, 8, "raw")([])
    assert tokens.shape == counts.shape == cut.shape == (0,)


def test_half_a_surrogate_pair_is_a_replacement_character(bert):
    tokenizer = TextTokenizer(bert, 20, "raw")
    texts = ["alpha \ud83d beta", "eta", "\ud83d\ude00"]
    assert rows(tokenizer, texts) == rows(tokenizer, ["alpha \N{REPLACEMENT CHARACTER} beta", "eta", "\U0001f600"])


def test_lengths_set_in_the_file_do_not_count(bert):
    backend = Tokenizer.from_str(bert.backend_tokenizer.to_str())
    backend.enable_truncation(4)
    backend.enable_padding(length=6)
    other = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]")
    texts = texts_of(1, 9)
    first, second = TextTokenizer(bert, 20, "raw"), TextTokenizer(other, 20, "raw")
    assert rows(first, texts) == rows(second, texts)
    assert first.key == second.key


@pytest.mark.parametrize("space", ["\n", "\t", "\u3000", ""])
@pytest.mark.parametrize("kind", ["bert", "plain"])
def test_of_long_texts_the_head_is_tokenised_whatever_separates_words(kind, space, request, monkeypatch):
    tokenizer = request.getfixturevalue(kind)
    pieces = ["alpha", "beta,", "\u6f22\u5b57"] if kind == "bert" else WORDS
    texts = [space.join(pieces * 2_000), "alpha" + " " * 9_000 + "beta", "a" * 9_000 + " beta"]
    seen = []
    wrapped = TextTokenizer(tokenizer, 8, "raw")
    encode = wrapped._encode
    monkeypatch.setattr(wrapped, "_encode", lambda some: seen.extend(map(len, some)) or encode(some))
    found, cut = rows(wrapped, texts)
    assert found == tokenizer(texts, truncation=True, max_length=8)["input_ids"]
    if kind == "bert" or space.strip() != space:
        assert cut[0]
        assert max(seen) < 10_000  # the first has more than twice as many


def test_the_key_knows_the_vocabulary_the_length_and_the_rule(bert, xlnet):
    keys = {
        TextTokenizer(tokenizer, length, rule).key
        for tokenizer in (bert, xlnet)
        for length in (8, 9)
        for rule in ("raw", "reference")
    }
    assert len(keys) == 8
    assert TextTokenizer(bert, 8, "raw").key in keys
    assert TextTokenizer(bert, 8, "raw", "query: ").key not in keys


@pytest.mark.parametrize("rule", ["raw", "reference"])
def test_a_prefix_stands_before_every_text(bert, rule):
    texts = ["alpha beta", "", "beta " * 9]
    found, cut = rows(TextTokenizer(bert, 6, rule, "alpha "), texts)
    if rule == "raw":
        assert found == bert([f"alpha {text}" for text in texts], truncation=True, max_length=6)["input_ids"]
    plain, _ = rows(TextTokenizer(bert, 6, rule), ["alpha"])
    assert all(row[:2] == plain[0][:2] and len(row) <= 6 for row in found)
    assert cut[2]


def test_special_tokens_must_leave_room(bert):
    with pytest.raises(DataError, match="max_length is 2, which the 2 special tokens fill alone"):
        TextTokenizer(bert, 2, "raw")


def test_vocab_size_is_above_every_id(bert, xlnet):
    assert TextTokenizer(bert, 8, "raw").vocab_size == len(bert.get_vocab())
    xlnet.add_tokens(["omega"])
    assert TextTokenizer(xlnet, 8, "raw").vocab_size == 4 + len(WORDS) + 1


def test_a_folder_without_a_vocabulary_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(DataError, match="holds no tokenizer: one of tokenizer.json, vocab.txt"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(DataError, match="nothing but special tokens"):
        load_tokenizer(str(tmp_path))


def test_a_vocabulary_without_a_config_is_an_error(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    with pytest.raises(DataError, match="cannot be loaded, config.json beside it"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert len(load_tokenizer(str(tmp_path))) == 13


def test_code_that_comes_with_a_tokenizer_is_never_run(tmp_path, monkeypatch):
    """Not even where standard input, from which texts may come, holds the answer to transformers' question."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}))
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'has run')!r}, 'w')\nclass Own: pass\nclass Config: pass\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(DataError, match="contains custom code which must be executed"):
        load_tokenizer(str(tmp_path))
    assert not (tmp_path / "has run").exists()
    assert sys.stdin.read(1) == "y"


@pytest.mark.parametrize("content", ["{}", "[]", '{"model": {"type": "WordPiece", "vocab": 3}}', "\0", '{"a": "\ud800'])
def test_a_damaged_tokenizer_is_named_in_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(DataError, match=f"^the tokenizer in {tmp_path} cannot be loaded[^\n]*$"):
        load_tokenizer(str(tmp_path))


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="is no folder, and as a Hugging Face id it cannot be loaded"):
        load_tokenizer(str(tmp_path / "nothing" / "there"))


def test_a_hub_id_without_network_says_which_files_to_give(tmp_path):
    code = (
        "from mhe_jax.data.texts.tokenizer import load_tokenizer\n"
        "from mhe_jax.data.dataset import DataError\n"
        "try: load_tokenizer('some-owner/some-model')\n"
        "except DataError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    root = pathlib.Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("'some-owner/some-model' is no folder, and as a Hugging Face id it cannot be loaded")
    assert "config.json, tokenizer.json (or vocab.txt, or vocab.json and merges.txt)" in run.stdout
    assert "model.safetensors" in run.stdout


@pytest.mark.parametrize("kind", ["bert", "plain", "xlnet"])
def test_what_was_saved_is_read_without_transformers(kind, request, tmp_path):
    first = TextTokenizer(request.getfixturevalue(kind), 9, "raw")
    for folder in (tmp_path / "once", tmp_path / "twice"):
        first.save(folder)
        kept = load_tokenizer(str(folder))
        assert isinstance(kept, KeptTokenizer)
        again = TextTokenizer(kept, 9, "raw")
        assert (again.key, again.vocab_size, again.unknown) == (first.key, first.vocab_size, first.unknown)
        assert rows(again, texts_of(1, 9)) == rows(first, texts_of(1, 9))
        first = again


@pytest.mark.parametrize("name", ["kept.json", "tokenizer.json"])
def test_a_saved_tokenizer_that_is_damaged_is_one_line(bert, name, tmp_path):
    TextTokenizer(bert, 9, "raw").save(tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(DataError, match=f"the tokenizer in {tmp_path} cannot be loaded"):
        load_tokenizer(str(tmp_path))
