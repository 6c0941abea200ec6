"""Laws of the damage simulator: what is drawn is plain data, and what is applied depends on nothing else."""

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from audiorestore.config import find_config, from_mapping, list_configs, load_config, to_mapping
from audiorestore.damage.effects import EFFECTS
from audiorestore.damage.simulate import DamageRecipe, Parameters, Step, apply, draw
from audiorestore.errors import ConfigError
from tests.test_effects import RATE, Recordings, snr_db, voice

CARRIERS = ("shellac78", "lp", "cassette", "reel", "wire", "radio", "telephone")
ALONE = ("hiss", "hum", "clicks", "crackle", "clip", "dropout", "bandlimit")


@cache
def shipped(name: str = "default") -> DamageRecipe:
    return load_config(DamageRecipe, find_config("damage", name))


def drawn(recipe: DamageRecipe, seed: int, **options: object) -> Parameters:
    rng = np.random.default_rng(seed)
    return draw(recipe, rng, sample_rate=RATE, n_samples=RATE, **options)  # type: ignore[arg-type]


def one_stage(kind: str, **values: object) -> DamageRecipe:
    stages = [{"kind": kind, "values": values}]
    return from_mapping(DamageRecipe, {"chains": [{"name": "it", "stages": stages}]}, where="test")


def test_no_damage_is_the_same_bits() -> None:
    clean = voice(2)
    target, damaged = apply(clean, Parameters(), sample_rate=RATE)
    assert torch.equal(target, clean)
    assert torch.equal(damaged, clean)


@pytest.mark.parametrize("library", [None, Recordings()])
def test_default_recipe_at_any_shape(library: Recordings | None) -> None:
    for seed in range(60):
        clean = voice(1 + seed % 2, [RATE, 4321, 37, 1][seed % 4], seed)
        before = clean.clone()
        parameters = drawn(shipped(), seed, library=library)
        pair = apply(clean, parameters, sample_rate=RATE, library=library)
        assert torch.equal(clean, before)
        assert pair.target.shape == pair.damaged.shape == clean.shape
        assert pair.target.dtype == pair.damaged.dtype == torch.float32
        assert torch.isfinite(pair.damaged).all(), parameters
        if all(step.kind != "wow" for step in parameters.steps):
            assert torch.equal(pair.target, clean)


def test_same_seed_same_pair() -> None:
    recipe, clean = shipped(), voice()
    for seed in range(20):
        first, again = (drawn(recipe, seed, library=Recordings()) for _ in range(2))
        assert first == again
        pairs = [apply(clean, first, sample_rate=RATE, library=Recordings()) for _ in range(2)]
        assert torch.equal(pairs[0].damaged, pairs[1].damaged)
    assert len({drawn(recipe, seed).to_json() for seed in range(50)}) > 40


def test_written_parameters_rebuild_the_same_sound() -> None:
    recipe, clean, library = shipped(), voice(), Recordings()
    for seed in range(40):
        parameters = drawn(recipe, seed, library=library)
        rebuilt = Parameters.from_json(parameters.to_json())
        assert rebuilt == parameters
        assert from_mapping(Parameters, to_mapping(parameters), where="test") == parameters
        expected = apply(clean, parameters, sample_rate=RATE, library=library)
        assert torch.equal(apply(clean, rebuilt, sample_rate=RATE, library=library).damaged, expected.damaged)


@pytest.mark.parametrize("kind", [kind for kind in EFFECTS if "snr_db" in EFFECTS[kind].spreads()])
def test_asked_snr_is_the_measured_one(kind: str) -> None:
    parameters = drawn(one_stage(kind, snr_db=7.5), 1, library=Recordings())
    pair = apply(voice(), parameters, sample_rate=RATE, library=Recordings())
    assert snr_db(pair) == pytest.approx(7.5, abs=1e-2)


def test_clean_pairs_are_as_many_as_asked() -> None:
    counts = Counter(drawn(shipped(), seed).chain for seed in range(1500))
    assert counts["clean"] / 1500 == pytest.approx(shipped().clean_probability, abs=0.025)
    assert all(drawn(shipped(), seed, chain="hiss").steps for seed in range(50))


def test_chains_are_drawn_by_weight() -> None:
    recipe = from_mapping(
        DamageRecipe,
        {
            "chains": [
                {"name": "often", "weight": 3, "stages": [{"kind": "hiss"}]},
                {"name": "seldom", "stages": [{"kind": "hum"}]},
                {"name": "never", "weight": 0, "stages": [{"kind": "clip"}]},
            ]
        },
        where="test",
    )
    counts = Counter(drawn(recipe, seed).chain for seed in range(1000))
    assert counts["often"] / 1000 == pytest.approx(0.75, abs=0.05)
    assert counts["never"] == 0


def test_chains_without_weight_are_drawn_only_by_name() -> None:
    recipe = from_mapping(
        DamageRecipe,
        {
            "chains": [
                {"name": "rain", "stages": [{"kind": "recorded"}]},
                {"name": "never", "weight": 0, "stages": [{"kind": "clip"}]},
            ]
        },
        where="test",
    )
    assert drawn(recipe, 0) == Parameters()
    assert drawn(recipe, 0, chain="never").chain == "never"


def test_at_least_one_stage_takes_part_and_they_keep_their_order() -> None:
    kinds = ["saturation", "hiss", "clicks", "hum"]
    stages = [{"kind": kind, "probability": 0.1} for kind in kinds]
    recipe = from_mapping(DamageRecipe, {"chains": [{"name": "it", "stages": stages}]}, where="test")
    for seed in range(100):
        found = [step.kind for step in drawn(recipe, seed).steps]
        assert found
        assert found == sorted(found, key=kinds.index)


def test_mixtures_pick_as_many_as_asked_and_keep_the_order() -> None:
    (mixture,) = (chain for chain in shipped().chains if chain.name == "mixture")
    order = [stage.kind for stage in mixture.stages]
    counts = set()
    for seed in range(200):
        found = [step.kind for step in drawn(shipped(), seed, chain="mixture").steps]
        assert found == sorted(found, key=order.index)
        counts.add(len(found))
    assert counts == {2, 3}


def test_without_recordings_nothing_asks_for_them() -> None:
    needy = {kind for kind, effect in EFFECTS.items() if effect.needs is not None}
    for seed in range(200):
        assert not needy & {step.kind for step in drawn(shipped(), seed).steps}
    only = one_stage("recorded")
    assert drawn(only, 0).steps == ()
    assert drawn(only, 0, library=Recordings()).steps


def test_sources_are_those_that_the_library_has() -> None:
    recipe = one_stage("recorded", source=["surface", "rain"])
    sources = {drawn(recipe, seed, library=Recordings()).steps[0].values["source"] for seed in range(30)}
    assert sources == {"surface"}
    assert drawn(one_stage("recorded", source="rain"), 0, library=Recordings()).steps == ()


def test_empty_sound_stays_empty() -> None:
    parameters = draw(shipped(), np.random.default_rng(0), sample_rate=RATE, n_samples=0)
    assert parameters == Parameters()
    noisy = drawn(shipped(), 0, chain="shellac78")
    assert apply(torch.zeros(1, 0), noisy, sample_rate=RATE).damaged.shape == (1, 0)


@pytest.mark.parametrize("name", CARRIERS + ALONE)
def test_carriers_in_the_default_recipe_are_their_own_recipes(name: str) -> None:
    (alone,) = shipped(name).chains
    (among,) = (chain for chain in shipped().chains if chain.name == name)
    assert (alone.stages, alone.pick) == (among.stages, among.pick)
    assert shipped(name).clean_probability == 0
    clean = voice()
    pair = apply(clean, drawn(shipped(name), 1), sample_rate=RATE)
    assert not torch.equal(pair.damaged, clean)


def test_every_shipped_recipe_can_be_read() -> None:
    names = list_configs("damage")
    assert {"default", *CARRIERS, *ALONE} <= set(names)
    assert all(shipped(name).chains for name in names)
    used = {stage.kind for chain in shipped().chains for stage in chain.stages}
    # A network is never shown a constant offset (`LevelMeter.offsets`), so it has nothing to learn about one.
    assert used == set(EFFECTS) - {"offset"}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"kind": "hisss"}, "kind: expected one of .* found 'hisss'"),
        ({"kind": "hiss", "loudness": 3}, "unknown setting 'loudness'"),
        ({"kind": "hiss", "values": {"loudness": 3}}, "unknown value 'loudness'"),
        ({"kind": "hiss", "values": {"snr_db": [9, 3]}}, "snr_db: expected 1 to 3 rising numbers"),
        ({"kind": "hiss", "values": {"snr_db": "much"}}, "snr_db: expected 1 to 3 rising numbers"),
        ({"kind": "hiss", "values": {"corner_hz": [0, 3]}}, "corner_hz: expected numbers above 0"),
        ({"kind": "hum", "values": {"mains_hz": 16.7}}, "mains_hz: expected some of 50.0, 60.0"),
        ({"kind": "bandlimit", "values": {"low_order": 1.5}}, "low_order: expected whole numbers"),
        ({"kind": "hiss", "probability": 0}, "probability: expected above 0"),
    ],
)
def test_wrong_stages_are_refused_by_name(stage: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(DamageRecipe, {"chains": [{"name": "it", "stages": [stage]}]}, where="test.yaml")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"chains": []}, "chains: expected at least one"),
        ({"chains": [{"name": "it", "stages": []}]}, "it: expected at least one stage"),
        ({"chains": [{"name": "it", "stages": [{"kind": "hum"}]}] * 2}, "expected different names"),
        ({"chains": [{"name": "it", "stages": [{"kind": "hum"}], "weight": -1}]}, "weight: expected 0 or more"),
        ({"chains": [{"name": "it", "stages": [{"kind": "hum"}], "pick": [2, 1]}]}, "pick: expected"),
        ({"chains": [{"name": "it", "stages": [{"kind": "hum"}]}], "clean_probability": 2}, "clean_probability"),
    ],
)
def test_wrong_recipes_are_refused_by_name(recipe: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(DamageRecipe, recipe, where="test.yaml")


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"chain: expected one of .*, found 'vhs'"):
        drawn(shipped(), 0, chain="vhs")
    with pytest.raises(ValueError, match=r"clean: expected \[channels, samples\]"):
        apply(torch.zeros(10), Parameters(), sample_rate=RATE)
    with pytest.raises(ValueError, match="expected the values"):
        Step("hum", 1, {"snr_db": 3.0})
    with pytest.raises(ConfigError, match="kind"):
        Parameters.from_json('{"chain": "x", "steps": [{"kind": "x", "seed": 1, "values": {}}]}')
    broken = tmp_path / "mine.yaml"
    broken.write_text("chains: [{name: it, stages: [{kind: nothing}]}]")
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_config(DamageRecipe, broken)
