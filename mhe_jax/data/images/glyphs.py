"""Thousands of classes without a download: the characters of the DejaVu faces that ship inside matplotlib.

A class is a character that every face of DejaVu Sans and DejaVu Serif draws; each face, DejaVu Sans Mono's too where it
has the character, is one view of it. Characters that DejaVu Sans draws with one outline (Latin A, Greek Alpha, Cyrillic
A) are one class, named after the first; blank ones are left out. The classes depend on the font files alone.
"""

import dataclasses
import hashlib
import os
import pathlib
import tempfile
import unicodedata
import warnings

import jax
import numpy as np
import PIL
import PIL.features
import PIL.Image
import PIL.ImageFont

from mhe_jax.data.cache import cache_root
from mhe_jax.data.dataset import ArraySplit, DataError
from mhe_jax.data.images import augment
from mhe_jax.data.images.dataset import ImageData, Images

SANS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique")
SERIF = ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic")
MONO = ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique")
FACES = SANS + SERIF + MONO

Drawings = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

_EM = 0.625  # of the image side: ascenders with stacked accents, descenders and a margin fit
_BASELINE = 0.72  # from the top, as a fraction of the image side
_MOMENTS = ((0.066,), (0.227,))  # of the rendered pixels


@dataclasses.dataclass(kw_only=True)
class Glyphs(ImageData):
    """Drawn characters, ink 255 on 0, grey.

    image_size: side of the drawings in pixels, at least 16.
    eval_faces: the faces held out of training, whose drawings are the evaluation split.
    augmentation: 1 for the ranges of augment.AffineRanges, 0 for none, or a factor between or beyond.
    noise: standard deviation of the pixel noise in training, of pixels in [0, 1].
    """

    image_size: int = 32
    eval_faces: tuple[str, ...] = ("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic")
    augmentation: float = 1.0
    noise: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.image_size < 16:
            raise ValueError(f"config.data.image_size is {self.image_size}; glyphs need at least 16 pixels")
        unknown = set(self.eval_faces) - set(FACES)
        if unknown or not self.eval_faces:
            raise ValueError(
                f"config.data.eval_faces is {self.eval_faces}; it must name one or more of {', '.join(FACES)}"
            )
        if set(self.eval_faces) >= set(FACES):
            raise ValueError("config.data.eval_faces holds every face: none is left to train on")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.image_size, self.image_size, 1)

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return _MOMENTS

    def load(self) -> Images:
        images, labels, faces, characters = cached_drawings(self.image_size)
        self.accept_classes(len(characters), "the DejaVu faces of matplotlib")
        held_out = np.isin(faces, [FACES.index(face) for face in self.eval_faces])
        return Images(
            ArraySplit(images[~held_out], labels[~held_out]),
            ArraySplit(images[held_out], labels[held_out]),
            tuple(character_name(int(code)) for code in characters),
        )

    def augment(self, images: jax.Array, key: jax.Array) -> jax.Array:
        affine_key, noise_key = jax.random.split(key)
        pixels = augment.to_float(images)
        if self.augmentation:
            pixels = augment.random_affine(pixels, affine_key, augment.AffineRanges(), self.augmentation)
        if self.noise:
            pixels = augment.noise(pixels, noise_key, self.noise)
        return augment.normalize(pixels, *self.moments)

    def decode_image(self, encoded: bytes, where: str) -> np.ndarray:
        """As for the other data sets; a picture with a bright border (ink on paper) is inverted."""
        image = super().decode_image(encoded, where)
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        return 255 - image if 2 * np.count_nonzero(border > 127) > border.size else image


def character_name(code: int) -> str:
    """'U+0041 LATIN CAPITAL LETTER A'."""
    return f"U+{code:04X} {unicodedata.name(chr(code), 'UNNAMED')}"


def font_file(face: str) -> pathlib.Path:
    """Where matplotlib keeps a face."""
    import matplotlib  # slow to import, and not needed to predict

    path = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
    if not path.exists():
        raise DataError(f"{path} is missing: data 'glyphs' needs the DejaVu fonts that matplotlib ships")
    return path


def choose_characters() -> np.ndarray:
    """Code points of the classes, ascending int32: drawn by every Sans and Serif face, one per outline, not blank."""
    from matplotlib.ft2font import FT2Font, LoadFlags  # as above

    candidates = set.intersection(*(set(FT2Font(str(font_file(face))).get_charmap()) for face in SANS + SERIF))
    main = FT2Font(str(font_file(SANS[0])))
    first_with: dict[bytes, int] = {}
    for code in sorted(candidates):
        main.load_char(code, LoadFlags.NO_SCALE)
        vertices, kinds = main.get_path()
        if len(vertices):
            # Drawings are centred, so a shift to the side makes no difference; one up or down does.
            outline = vertices - [vertices[:, 0].min(), 0]
            first_with.setdefault(outline.tobytes() + kinds.tobytes(), code)
    return np.array(sorted(first_with.values()), np.int32)


def draw(face: str, characters: np.ndarray, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the characters that a face has, all at one scale and on one baseline, so that O and o, or , and ' differ.

    The ink is centred from side to side; ink that would leave the image is moved in, and shrunk if it is larger.

    Returns:
      uint8 [n, image_size, image_size] with ink 255, and their places int32 [n] in `characters`.
    """
    from matplotlib.ft2font import FT2Font  # as above

    path = str(font_file(face))
    has = set(FT2Font(path).get_charmap())
    # Layout.BASIC draws the character's own glyph: no ligatures, no reordering of right-to-left text.
    font = PIL.ImageFont.truetype(path, round(_EM * image_size), layout_engine=PIL.ImageFont.Layout.BASIC)
    baseline = round(_BASELINE * image_size)
    images, places = [], []
    for place, code in enumerate(characters.tolist()):
        if code not in has:
            continue
        mask, (_, top) = font.getmask2(chr(code), mode="L", anchor="ls")
        box = mask.getbbox()
        if box is None:
            continue
        ink = np.array(mask, np.uint8).reshape(mask.size[::-1])[box[1] : box[3], box[0] : box[2]]
        top += box[1]
        if max(ink.shape) > image_size:
            scale = image_size / max(ink.shape)
            height, width = (max(1, int(side * scale)) for side in ink.shape)
            ink = np.array(PIL.Image.fromarray(ink).resize((width, height), PIL.Image.Resampling.BILINEAR))
        row = min(max(0, baseline + top), image_size - ink.shape[0])
        column = (image_size - ink.shape[1]) // 2
        image = np.zeros((image_size, image_size), np.uint8)
        image[row : row + ink.shape[0], column : column + ink.shape[1]] = ink
        images.append(image)
        places.append(place)
    return np.stack(images), np.array(places, np.int32)


def drawings(image_size: int) -> Drawings:
    """Every class in every face: images uint8 [N, S, S, 1], labels int32 [N], faces int32 [N], characters int32 [C]."""
    characters = choose_characters()
    drawn = [draw(face, characters, image_size) for face in FACES]
    images = np.concatenate([images for images, _ in drawn])[..., None]
    faces = np.repeat(np.arange(len(FACES), dtype=np.int32), [len(labels) for _, labels in drawn])
    return images, np.concatenate([labels for _, labels in drawn]), faces, characters


def cached_drawings(image_size: int) -> Drawings:
    """`drawings`, kept on disk under a hash of the fonts, this file, Pillow and the size; made again where damaged."""
    path = cache_file(image_size)
    if path.exists():
        try:
            with path.open("rb") as file, np.load(file) as stored:
                return stored["images"], stored["labels"], stored["faces"], stored["characters"]
        except Exception as error:  # zip files have checksums, and damaged ones fail in any way
            warnings.warn(f"{path} is damaged and is made again: {error}", stacklevel=2)
    drawn = drawings(image_size)
    try:
        _keep(path, drawn)
    except OSError as error:
        warnings.warn(f"the glyphs are drawn anew each time, because {path} cannot be written: {error}", stacklevel=2)
    return drawn


def _keep(path: pathlib.Path, drawn: Drawings) -> None:
    """Writes beside the place and renames: other processes see the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images, labels, faces, characters = drawn
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as written:
        try:
            np.savez_compressed(written, images=images, labels=labels, faces=faces, characters=characters)
            written.flush()
            os.replace(written.name, path)
        except BaseException:
            os.unlink(written.name)
            raise


def cache_file(image_size: int) -> pathlib.Path:
    """Under $XDG_CACHE_HOME or ~/.cache."""
    digest = hashlib.sha256(pathlib.Path(__file__).read_bytes())
    for face in FACES:
        digest.update(font_file(face).read_bytes())
    digest.update(f"{PIL.__version__} {PIL.features.version('freetype2')} {image_size}".encode())
    return cache_root() / f"glyphs-{digest.hexdigest()[:16]}.npz"
