import pathlib
import subprocess
import sys

import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.tokenizer import load_tokenizer
from mhe_jax.data.texts.word_pieces import train_word_pieces

# Many words that occur once: every merge is a tie.
TEXTS = [f"{a}{b}{c} {c}{a} {b}-{a}" for a in "abcdefg" for b in "hijklm" for c in "nopqr"]


def test_training_twice_gives_one_vocabulary():
    first, second = (train_word_pieces(TEXTS, 150).get_vocab() for _ in range(2))
    assert first == second
    assert len(first) == 150


def test_another_process_gives_the_same_vocabulary():
    """Hash tables are seeded anew in each."""
    code = (
        "from mhe_jax.data.texts.word_pieces import train_word_pieces\n"
        f"print(sorted(train_word_pieces({TEXTS!r}, 150).get_vocab().items()))"
    )
    root = pathlib.Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(sorted(train_word_pieces(TEXTS, 150).get_vocab().items()))


def test_it_works_as_berts():
    tokenizer = train_word_pieces(["Lower UPPER Éclair", "low-er"] * 3, 60)
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ids = tokenizer("LOWER eclair\tup-low ж?")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == "[CLS] lower eclair up - low [UNK] [UNK] [SEP]"
    # Single characters had to be named to the trainer; they are words like others all the same.
    assert len(tokenizer.all_special_ids) == 5
    assert tokenizer("##o")["input_ids"] != tokenizer("o")["input_ids"]


def test_it_is_kept_and_loaded(tmp_path):
    tokenizer = train_word_pieces(TEXTS, 150)
    tokenizer.save_pretrained(str(tmp_path))
    again = load_tokenizer(str(tmp_path))
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again("ahn na h-a")["input_ids"] == tokenizer("ahn na h-a")["input_ids"]


def test_a_vocabulary_below_the_alphabet_is_an_error():
    with pytest.raises(DataError, match="vocab_size is 20; single characters alone need"):
        train_word_pieces(TEXTS, 20)
