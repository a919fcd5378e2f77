"""A WordPiece vocabulary trained on texts: the same one on every machine."""

import itertools
from collections.abc import Iterable
from typing import Any

from mhe_jax.data.dataset import DataError

_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def train_word_pieces(texts: Iterable[str], vocab_size: int) -> Any:
    """A transformers PreTrainedTokenizerFast that works as BERT's uncased one, with at most `vocab_size` pieces.

    The library numbers the characters inside words in the order of a hash table, and breaks ties between merges by
    these numbers, so that every run gives another vocabulary. Named beforehand, the characters have fixed numbers.

    Raises:
      DataError: if the characters alone need a larger vocabulary.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = [[word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))] for text in texts]
    different = sorted(set(itertools.chain.from_iterable(words)))
    first = sorted({word[0] for word in different})
    inside = sorted({f"##{character}" for word in different for character in word[1:]})
    named = [*_SPECIAL.values(), *first, *inside]
    if vocab_size < len(named):
        raise DataError(f"config.data.vocab_size is {vocab_size}; single characters alone need {len(named)}")
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=named, initial_alphabet=first, show_progress=False
    )
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.train_from_iterator((" ".join(some) for some in words), trainer)

    # Named characters are no special tokens: the vocabulary goes into a tokenizer that has BERT's only.
    tokenizer = Tokenizer(models.WordPiece(trained.get_vocab(with_added_tokens=False), unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)
