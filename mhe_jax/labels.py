"""The mixed-radix code that turns one class into H short digits, and which class has which code.

Every head, loss and metric speaks of classes through a `LabelSpace`, so this module knows nothing but numpy and jnp.
Inside of it classes are codes. Where those are not the ids of the data, `LabelCodes` translates, on the host, where
labels enter and where predictions leave.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Integer

_INT32_MAX = 2**31 - 1

# What a function takes that does not mind whose array it is.
AnyArray = Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class LabelSpace:
    """`num_classes` ids written as H = len(head_sizes) digits, the most significant first (C order).

    Codes `num_classes .. prod(head_sizes) - 1` are padding: they can be written, but mean no class. The object is
    frozen and hashable, so it may be a static argument of `jax.jit`.

    >>> space = LabelSpace(num_classes=11, head_sizes=(3, 4))
    >>> space.encode([0, 6, 10]).tolist()
    [[0, 0], [1, 2], [2, 2]]
    >>> space.decode([[1, 2]]).tolist()
    [6]
    >>> LabelSpace.balanced(1000, num_heads=3)
    LabelSpace(num_classes=1000, head_sizes=(10, 10, 10))

    Args:
      num_classes: number of classes C >= 1.
      head_sizes: sizes n_0 .. n_{H-1} of the digits; their product must be at least C.
      free: codes below `num_classes` that no class has, which no ranking lists; `num_classes` counts them.

    Raises:
      ValueError: if a size is not positive, the product is below C, codes would not fit in int32, or none is left.

    Source: label decomposition of Multi-Head Encoding (arXiv 2412.10182), section 3.
    """

    num_classes: int
    head_sizes: tuple[int, ...]
    free: tuple[int, ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self):
        object.__setattr__(self, "num_classes", int(self.num_classes))
        object.__setattr__(self, "head_sizes", tuple(int(n) for n in self.head_sizes))
        object.__setattr__(self, "free", tuple(sorted({int(code) for code in self.free})))
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {self.num_classes}")
        if not self.head_sizes or min(self.head_sizes) < 1:
            raise ValueError(f"head_sizes must be one or more positive integers, not {self.head_sizes}")
        if self.num_codes < self.num_classes:
            raise ValueError(
                f"head_sizes {self.head_sizes} hold {self.num_codes} codes but num_classes is {self.num_classes}: "
                "their product must be at least num_classes"
            )
        if self.num_codes > _INT32_MAX:
            raise ValueError(f"head_sizes {self.head_sizes} hold {self.num_codes} codes; codes must fit in int32")
        if self.free and not 0 <= self.free[0] <= self.free[-1] < self.num_classes:
            raise ValueError(
                f"free codes must be in 0 .. {self.num_classes - 1}, not {self.free[0]} .. {self.free[-1]}"
            )
        if self.num_live < 1:
            raise ValueError(f"all {self.num_classes} codes are free: one class has to be left")

    @classmethod
    def balanced(cls, num_classes: int, num_heads: int) -> "LabelSpace":
        """The space with `num_heads` digits of nearly equal size, with less than one block of head 0 unused.

        Raises:
          ValueError: if a number is below 1.
        """
        if num_heads < 1:
            raise ValueError(f"num_heads must be at least 1, not {num_heads}")
        remaining, sizes = num_classes, []
        for heads_left in range(num_heads, 0, -1):
            sizes.append(_integer_root_ceil(remaining, heads_left))
            remaining = -(-remaining // sizes[-1])
        sizes[0] = -(-num_classes // math.prod(sizes[1:]))
        return cls(num_classes, tuple(sizes))

    @classmethod
    def grouped(cls, num_labels: int, num_groups: int) -> "LabelSpace":
        """Contiguous blocks of labels, `(groups, labels per group)`, by the block rule of the MHE text pipeline.

        Groups are dropped until the padding is smaller than one group: 670,091 labels in 8,400 asked groups become
        8,377 groups of 80.

        >>> LabelSpace.grouped(670_091, 8_400)
        LabelSpace(num_classes=670091, head_sizes=(8377, 80))

        Raises:
          ValueError: if `num_groups` is not in 1 .. num_labels.
        """
        if not 1 <= num_groups <= num_labels:
            raise ValueError(f"num_groups must be between 1 and num_labels={num_labels}, not {num_groups}")
        size = -(-num_labels // num_groups)
        while num_groups * size - num_labels >= size:
            num_groups -= 1
            size = -(-num_labels // num_groups)
        return cls(num_labels, (num_groups, size))

    @property
    def num_heads(self) -> int:
        """Number of digits H."""
        return len(self.head_sizes)

    @property
    def num_codes(self) -> int:
        """Number of codes, padding included: prod(head_sizes)."""
        return math.prod(self.head_sizes)

    @property
    def num_live(self) -> int:
        """Number of classes that there are, without free codes."""
        return self.num_classes - len(self.free)

    @property
    def first_live(self) -> int:
        """The first code of a class."""
        return next(code for code, free in enumerate((*self.free, -1)) if code != free)

    @property
    def live_codes(self) -> Int[np.ndarray, "classes"]:
        """The codes of classes, ascending, without padding and free ones."""
        codes = np.arange(self.num_classes)
        return codes[self.is_valid(codes)]

    @property
    def strides(self) -> tuple[int, ...]:
        """How many codes one step of each digit skips: id = sum_h digit_h * stride_h."""
        return tuple(math.prod(self.head_sizes[h + 1 :]) for h in range(self.num_heads))

    def num_nodes(self, level: int) -> int:
        """Number of prefixes of `level + 1` digits that some class has: the nodes of the cascade at that level."""
        return -(-self.num_classes // self.strides[level])

    @overload
    def encode(self, ids: Int[Array, "..."]) -> Int[Array, "... {self.num_heads}"]: ...

    @overload
    def encode(self, ids: Int[np.ndarray, "..."] | Sequence) -> Int[np.ndarray, "... {self.num_heads}"]: ...

    def encode(self, ids: Int[AnyArray, "..."] | Sequence) -> Int[AnyArray, "... {self.num_heads}"]:
        """Digits of class ids.

        Args:
          ids: int array [...], NumPy or jnp. Negative ids mean "no class".

        Returns:
          int array [..., H] of the same kind; all digits of a negative id are -1.

        Raises:
          ValueError: for a NumPy id that is not below `num_codes` (traced values cannot be checked).
        """
        xp: Any = jnp if isinstance(ids, jax.Array) else np
        codes = xp.asarray(ids)
        if xp is np and codes.size and int(codes.max()) >= self.num_codes:
            raise ValueError(f"label {int(codes.max())} is outside the {self.num_codes} codes of {self.head_sizes}")
        digits = [(codes // stride) % size for stride, size in zip(self.strides, self.head_sizes, strict=True)]
        return xp.where((codes < 0)[..., None], -1, xp.stack(digits, axis=-1))

    @overload
    def decode(self, digits: Int[Array, "... heads"]) -> Int[Array, "..."]: ...

    @overload
    def decode(self, digits: Int[np.ndarray, "... heads"] | Sequence) -> Int[np.ndarray, "..."]: ...

    def decode(self, digits: Int[AnyArray, "... heads"] | Sequence) -> Int[AnyArray, "..."]:
        """Class ids of digits: the inverse of `encode`. int array [..., H] -> [...]; a negative digit gives -1.

        Raises:
          ValueError: if there are not H digits.
        """
        xp: Any = jnp if isinstance(digits, jax.Array) else np
        columns = xp.asarray(digits)
        if columns.shape[-1] != self.num_heads:
            raise ValueError(
                f"digits have {columns.shape[-1]} columns, head_sizes {self.head_sizes} need {self.num_heads}"
            )
        ids = sum(columns[..., h] * stride for h, stride in enumerate(self.strides))
        return xp.where((columns < 0).any(axis=-1), -1, ids)

    def is_valid(self, ids: Int[AnyArray, "*shape"]) -> Bool[AnyArray, "*shape"]:
        """Whether each id is a class, neither padding nor free. Array [...] of ints -> [...] of bools."""
        below = (ids >= 0) & (ids < self.num_classes)
        return below & ~self._among(ids, self.free) if self.free else below

    def leads_to_class(self, level: int, nodes: Int[Array, "*shape"]) -> Bool[Array, "*shape"]:
        """Whether some class has each prefix of `level + 1` digits, read as a number: int [...] -> bool [...]."""
        there = nodes < self.num_nodes(level)
        if not self.free:
            return there
        below, counts = np.unique(np.array(self.free) // self.strides[level], return_counts=True)
        # The last node has fewer codes where there is padding.
        held = np.minimum(self.strides[level], self.num_classes - below * self.strides[level])
        return there & ~self._among(nodes, below[counts == held])

    @staticmethod
    def _among(ids: Any, some: Any) -> Any:
        """Whether each id is one of `some`, which ascend."""
        xp: Any = jnp if isinstance(ids, jax.Array) else np
        if not len(some):
            return xp.zeros(ids.shape, bool)
        ascending = xp.asarray(np.asarray(some, np.int32))
        last = len(some) - 1
        if xp is np:
            place = np.minimum(np.searchsorted(ascending, ids), last)
        else:  # by halves, in operations that every exported program has
            place = jnp.zeros(ids.shape, jnp.int32)
            for bit in reversed(range(len(some).bit_length())):
                after = place + 2**bit
                place = jnp.where((after <= last) & (ascending[jnp.minimum(after, last)] <= ids), after, place)
        return ascending[place] == ids


@dataclasses.dataclass(frozen=True, eq=False)
class LabelCodes:
    """Which class has which code of a `LabelSpace`, each class one at most; it stays on the host.

    >>> codes = LabelCodes.of([2, 0, 1])
    >>> codes.codes(np.array([2, 2, -1])).tolist(), codes.ids(np.array([0, 1])).tolist()
    ([0, 0, -1], [2, 0])
    >>> LabelCodes.of([0, 1, 2]).is_identity
    True
    >>> LabelCodes.placed([2, -1, 0], num_classes=3).codes(np.array([0, 1, 2])).tolist()
    [2, -1, 0]

    Attributes:
      num_classes: number of classes C.
      id_of_code: int32 [codes], the classes in the order of their codes, -1 for a code without one; None where each
        class's code is its id.
    """

    num_classes: int
    id_of_code: Int[np.ndarray, "codes"] | None = None

    @classmethod
    def of(cls, id_of_code: Integer[np.ndarray, "classes"] | Sequence[int]) -> "LabelCodes":
        """The codes that give code c to class `id_of_code[c]`.

        Raises:
          ValueError: unless each of 0 .. C-1 is there once.
        """
        codes = cls.placed(id_of_code, len(id_of_code))
        if codes.id_of_code is not None and (codes.id_of_code < 0).any():
            code = int(np.argmin(codes.id_of_code))
            raise ValueError(f"code {code} is of class -1, but there are {codes.num_classes} classes")
        return codes

    @classmethod
    def placed(cls, id_of_code: Integer[np.ndarray, "codes"] | Sequence[int], num_classes: int) -> "LabelCodes":
        """Likewise, where codes may have no class, -1, and classes no code.

        Raises:
          ValueError: if a class has several codes, or is not in 0 .. `num_classes` - 1.
        """
        ids = np.asarray(id_of_code)
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
            raise ValueError(f"codes are one whole number for each class, not {ids.dtype} {list(ids.shape)}")
        outside = np.flatnonzero((ids < -1) | (ids >= num_classes))
        if len(outside):
            raise ValueError(f"code {outside[0]} is of class {ids[outside[0]]}, but there are {num_classes} classes")
        counts = np.bincount(ids[ids >= 0], minlength=num_classes)
        if (counts > 1).any():
            doubled, missing = int(np.argmax(counts)), int(np.argmin(counts))
            others = f", and class {missing} has none" if not counts[missing] else ""
            raise ValueError(f"class {doubled} has {counts[doubled]} codes{others}")
        ids = ids.astype(np.int32)
        return cls(num_classes, None if np.array_equal(ids, np.arange(num_classes)) else ids)

    @classmethod
    def identity(cls, num_classes: int) -> "LabelCodes":
        """The codes that are the ids."""
        return cls(num_classes)

    @property
    def is_identity(self) -> bool:
        """Whether each class's code is its id."""
        return self.id_of_code is None

    @property
    def num_codes(self) -> int:
        """How many codes there are, with those that no class has."""
        return self.num_classes if self.id_of_code is None else len(self.id_of_code)

    @property
    def classes_by_code(self) -> Int[np.ndarray, "codes"]:
        """int32 [codes], `id_of_code`, or the numbers of the classes."""
        return np.arange(self.num_classes, dtype=np.int32) if self.id_of_code is None else self.id_of_code

    @functools.cached_property
    def code_of_id(self) -> Int[np.ndarray, "classes"]:
        """int32 [C], the inverse of `id_of_code`; -1 for a class without a code."""
        if self.id_of_code is None:
            return np.arange(self.num_classes, dtype=np.int32)
        inverse, codes = np.full(self.num_classes, -1, np.int32), np.flatnonzero(self.id_of_code >= 0)
        inverse[self.id_of_code[codes]] = codes
        return inverse

    @property
    def digest(self) -> str:
        """Sixteen letters that tell codes apart; empty for the identity."""
        return (
            "" if self.id_of_code is None else hashlib.sha256(self.id_of_code.astype("<i4").tobytes()).hexdigest()[:16]
        )

    def codes(self, ids: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Codes of classes; negative ids, which are no class, stay. The array itself where nothing changes."""
        return ids if self.is_identity else _looked_up(self.code_of_id, ids)

    def ids(self, codes: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Classes of codes, the inverse of `codes`."""
        return codes if self.id_of_code is None else _looked_up(self.id_of_code, codes)

    def in_code_order(self, rows: np.ndarray) -> np.ndarray:
        """What classes have, [C, ...] by id, by code: [codes, ...]. A code without a class gets that of class 0."""
        return rows if self.id_of_code is None else rows[np.maximum(self.id_of_code, 0)]


def _looked_up(table: np.ndarray, places: np.ndarray) -> np.ndarray:
    places = np.asarray(places)
    return np.where(places < 0, places, table[np.maximum(places, 0)])


def _integer_root_ceil(value: int, degree: int) -> int:
    """The smallest n >= 1 with n ** degree >= value, in exact integer arithmetic."""
    root = max(1, round(value ** (1 / degree)))
    while root**degree >= value and root > 1:
        root -= 1
    while root**degree < value:
        root += 1
    return root
