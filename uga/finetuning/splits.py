"""Which fold learns from which patch: slides are dealt to the folds, and a fold never learns from its own."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from typing import TYPE_CHECKING

from uga.errors import UserError
from uga.training.cases import safe_id
from uga.training.splits import Split

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from uga.finetuning.patches import LearningPatch


def deal(
    corrections: Sequence[LearningPatch],
    replay: Sequence[LearningPatch],
    *,
    earlier: Mapping[str, int | None],
    folds: int,
    seed: int,
) -> dict[str, int | None]:
    """Patch name -> the fold that must not learn from it; None if all folds may.

    Replayed patches stay with the fold that validated them when the parent was trained; where that is not stated, their
    patients are dealt. A slide that an earlier fine-tuning learnt from stays with the fold that did not, or with none.
    Other corrected slides are dealt one by one, centre after centre, to the fold that holds out the fewest of the
    centre, and of all; so a fold holds out as many as any other, of each centre too, give or take one, as far as what
    stays where it is allows. A single corrected slide, or several that would all be held out of the same fold, are
    dealt to no fold: held out, they would leave that fold of the ensemble behind.

    Args:
        corrections: Patches of the corrected slides.
        replay: Old patches.
        earlier: `Training.corrected` of the parent.
        folds: Number of folds.
        seed: Same seed and slides, same deal.

    Raises:
        UserError: the replay has one slide or patient in two folds, or a fold would hold out all there is.
    """
    # Packs have the names that a training gave its slides, corrections those of the slides' files.
    slide_of = {patch.name: slide_key(patch.slide) for patch in (*corrections, *replay)}
    fold_of: dict[str, int | None] = {}
    for patch in replay:
        if patch.fold is not None:
            for group in {slide_of[patch.name], patch.patient}:
                if fold_of.setdefault(group, patch.fold) != patch.fold:
                    raise UserError(f"The replay has '{group}' in two folds; a slide or patient must be in one.")
    unstated = {patch.patient for patch in replay if patch.fold is None and slide_of[patch.name] not in fold_of}
    fold_of |= _dealt({"": unstated - fold_of.keys()}, (), folds, seed)
    fold_of |= {slide_of[patch.name]: fold_of[patch.patient] for patch in replay if slide_of[patch.name] not in fold_of}
    centre_of = {slide_of[patch.name]: patch.centre for patch in corrections}
    old = {slide: fold_of[slide] for slide in centre_of if slide in fold_of}
    free = centre_of.keys() - old.keys()
    settled = {slide: earlier[digest] for slide in free if (digest := slide_digest(slide)) in earlier}
    new = {
        centre: {slide for slide in free - settled.keys() if centre_of[slide] == centre}
        for centre in sorted({*centre_of.values()})
    }
    settled |= _dealt(new, [(centre_of[slide], fold) for slide, fold in (old | settled).items()], folds, seed)
    if len({*(old | settled).values()}) == 1:
        settled = dict.fromkeys(settled)
    fold_of |= settled
    held_out = {name: fold_of[slide] for name, slide in slide_of.items()}
    places = {*held_out.values()}
    if len(places) == 1 and None not in places:
        raise UserError(
            f"Fold {places.pop()} would learn from nothing, as it holds out all corrections and the whole replay; "
            "correct a patch of another slide, or name a larger pack with --replay."
        )
    return held_out


def slide_key(name: str) -> str:
    """One name for a slide, whether it is that of its file or the one that a training gave it."""
    return safe_id(name) or name


def slide_digest(name: str) -> str:
    """What a model's card calls a slide: models get passed on, and names of slides can be those of patients."""
    return hashlib.sha256(slide_key(name).encode()).hexdigest()


def make_splits(held_out: Mapping[str, int | None], *, folds: int) -> list[Split]:
    """nnU-Net's splits of dealt patches; validation may be empty."""
    return [
        Split(
            train=sorted(name for name, fold in held_out.items() if fold != k),
            val=sorted(name for name, fold in held_out.items() if fold == k),
        )
        for k in range(folds)
    ]


def _dealt(
    sets: Mapping[str, set[str]], held: Collection[tuple[str, int | None]], folds: int, seed: int
) -> dict[str, int | None]:
    """Set after set, each in an order of its own, to the fold that holds the fewest of the set, and of all.

    ``held`` are sets and folds of what lies there already.
    """
    rng = random.Random(seed)  # noqa: S311 - a shuffle, not a secret
    of_set, of_all = Counter(held), Counter(fold for _, fold in held)
    dealt: dict[str, int | None] = {}
    for name, groups in sets.items():
        for group in rng.sample(sorted(groups), len(groups)):
            fold = min(range(folds), key=lambda fold: (of_set[name, fold], of_all[fold]))
            of_set[name, fold] += 1
            of_all[fold] += 1
            dealt[group] = fold
    return dealt
