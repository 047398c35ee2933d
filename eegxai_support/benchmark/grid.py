"""A benchmark's configuration: what it may say, and the fits and cells that it asks for."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path

from eegxai_support.attribution import METHODS, Method
from eegxai_support.attribution.baselines import BASELINES
from eegxai_support.decoders import cache, train
from eegxai_support.decoders.named import imported, is_importable, reference, source_digest
from eegxai_support.files import expanded, to_json
from eegxai_support.model import needed
from eegxai_support.provenance import package_digest, versions
from eegxai_support.simulate import REGIMES
from eegxai_support.trials import unknown_name

SIZES = ("n_train", "n_valid", "n_test", "n_datasets", "n_explained", "n_null")
LISTS = ("regimes", "snr_db", "decoders", "seeds", "methods")
DECODER = ""  # the cell of a fit that holds its accuracy; the others have the label of a method
N_BASELINES = 16  # training trials, for a method that compares with many
TRAINING = tuple(  # what a decoder's `train` may set
    name
    for name in inspect.signature(train).parameters
    if name not in ("model", "train", "valid", "seed", "device", "cache")
)
COUNTS = ("epochs", "batch_size")  # whole numbers among these
# What can change a number: the rooms that a decoder's training reaches, those of a cell, and what both compute with.
# Networks and methods of one's own may call any room.
TRAINED_BY = (*cache.TRAINED_BY, "simulate", "benchmark")
SCORED_BY = (*TRAINED_BY, "attribution", "scoring", "sanity")
LIBRARIES = ("torch", "braindecode", "mne", "numpy", "pandas", "scipy")


@dataclass(frozen=True)
class Fit:
    """One trained decoder and all methods that explain it; plain values, so that it travels to any worker.

    What is one's own stands there as "module:name", and as the object itself only where no worker could import it.

    Parameters
    ----------
    regime, options, snr_db
        Arguments of `simulate`.
    decoder : str
        The label in the table.
    network : dict
        ``name`` and ``build``, the arguments of `build_decoder`, and ``train``, those of `train`.
    seed : int
        Of the weights, the training and, with regime and SNR, of all trials.
    sizes : dict
        Numbers of trials, data sets and draws, by the names of the configuration.
    methods : dict
        For each label ``method`` and ``baseline``; the rest are the method's options.
    sources : dict
        A hash of the source of each own network and method, by the cell that it is needed for first.
    made_by : dict
        See `made_by`.
    """

    regime: str
    options: dict
    snr_db: float
    decoder: str
    network: dict
    seed: int
    sizes: dict
    methods: dict
    sources: dict = field(default_factory=dict)
    made_by: dict = field(default_factory=dict)

    @property
    def place(self) -> dict:
        """Where the fit stands in the grid, by the columns of the table."""
        return {"regime": self.regime, "snr_db": self.snr_db, "decoder": self.decoder, "seed": self.seed}

    @property
    def cells(self) -> tuple[str, ...]:
        """The decoder's own cell, then one per method."""
        return (DECODER, *self.methods)

    def content(self, cell: str | None = None) -> dict:
        """Everything that determines the results of a cell, or the trained weights where none is given."""
        sources = [self.sources[it] for it in dict.fromkeys((DECODER, cell)) if it in self.sources]
        made_by = "own" if sources else "weights" if cell is None else "cells"
        content = {"package": self.made_by[made_by], "versions": self.made_by["versions"]}
        content |= {"regime": self.regime, "options": self.options}
        content |= {"snr_db": self.snr_db, "network": _stated(self.network, "name"), "seed": self.seed}
        used = {None: (), DECODER: ("n_test",)}.get(cell, ("n_datasets", "n_explained", "n_null"))
        content |= {name: self.sizes[name] for name in ("n_train", "n_valid", *used)}
        if sources:
            content["sources"] = sources
        if cell is None:
            return content
        method = _stated(self.methods[cell], "method") if cell else None
        return content | {"decoder": self.decoder, "label": cell, "method": method}

    def key(self, cell: str | None = None) -> str:
        """Name of the file that holds a cell, or the weights."""
        return _digest(self.content(cell)).hex()[:32]

    def seed_of(self, *purpose: str | int) -> int:
        """Seed of one set of draws.

        It follows from a hash of regime, SNR, seed and purpose: different purposes are independent, and decoders and
        methods that state the same purpose get the same draws.
        """
        return int.from_bytes(_digest([self.regime, self.snr_db, self.seed, *purpose])[:7])


def made_by() -> dict:
    """Return hashes of the package's sources that make weights and cells, and the versions of what they compute with.

    Where a network or method is one's own, it is the hash of all, "own".
    What training reaches is a part of what a cell does: decoders stay trained where a method changed.
    """
    return {
        "weights": package_digest(*TRAINED_BY),
        "cells": package_digest(*SCORED_BY),
        "own": package_digest(),
        "versions": versions(LIBRARIES),
    }


def read_grid(config: dict | str | Path) -> list[Fit]:
    """Check a configuration and return its fits in the order of the grid.

    Parameters
    ----------
    config : dict or path of a YAML file
        See `run_benchmark`.

    Returns
    -------
    list of Fit

    Raises
    ------
    ValueError
        An unknown or missing key, name or option, or a value of the wrong kind.
    """
    if not isinstance(config, dict):
        config = _parsed(expanded(config))
    config = _mapping(config, "the configuration", {*SIZES, *LISTS}, required=(*SIZES, *LISTS))
    sizes = {name: _count(config[name], name, least=name != "n_null") for name in SIZES}
    regimes = {
        name: _mapping(options, f"regimes.{name}") for name, options in _named(config["regimes"], "regimes").items()
    }
    for name in regimes:
        _known("regime", name, REGIMES)
    snr_db = config["snr_db"]
    if not isinstance(snr_db, dict):
        snr_db = dict.fromkeys(regimes, snr_db)
    _mapping(snr_db, "snr_db", regimes, required=regimes)
    snr_db = {name: [float(_finite(snr, "snr_db")) for snr in _list(snr_db[name], "snr_db")] for name in regimes}
    networks, of_networks = _with_sources(_named(config["decoders"], "decoders"), _network, "name")
    seeds = [_count(seed, "seeds", least=0) for seed in _list(config["seeds"], "seeds")]
    methods, of_methods = _with_sources(_named(config["methods"], "methods"), _method, "method")
    made = made_by()
    sources = {it: of_methods | ({DECODER: of_networks[it]} if it in of_networks else {}) for it in networks}
    return [
        Fit(regime, regimes[regime], snr, decoder, networks[decoder], seed, sizes, methods, sources[decoder], made)
        for regime in regimes
        for snr, decoder, seed in itertools.product(snr_db[regime], networks, seeds)
    ]


def _parsed(path: Path):
    with needed("run_benchmark with a YAML file", extra="benchmark"):
        import yaml
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error


def options_of(method: str | Callable) -> set[str]:
    """Return the options that a method takes."""
    _, *options = inspect.signature(method_of(method).compute).parameters  # the first is the problem
    return set(options)


def method_of(given: str | Callable) -> Method:
    """Return the method that a key of `METHODS`, "module:name" or a function stands for."""
    if given in METHODS:
        return METHODS[given]
    compute = imported(given) if isinstance(given, str) else given
    entered = [method for method in METHODS.values() if method.compute is compute]  # on import, by `register`
    return entered[0] if entered else Method(compute, reference="")


@contextmanager
def entered(given: str | Callable) -> Iterator[str]:
    """Give a method a name in `METHODS` for as long as it is used."""
    method = method_of(given)
    if names := [name for name, known in METHODS.items() if known is method]:
        yield names[0]
        return
    name = _name_of(given)
    METHODS[name] = method
    try:
        yield name
    finally:
        del METHODS[name]


def _with_sources(given: dict, checked: Callable, key: str) -> tuple[dict, dict]:
    """Return checked entries by label, and by label the hash of what is one's own among what `key` holds."""
    entries, sources = {label: checked(label, it) for label, it in given.items()}, {}
    for label, entry in entries.items():
        if not isinstance(entry[key], str) or ":" in entry[key]:
            sources[label] = source_digest([imported(entry[key]) if isinstance(entry[key], str) else entry[key]])
    return entries, sources


def _stated(entry: dict, key: str) -> dict:
    return entry | {key: _name_of(entry[key])}


def _name_of(given: str | Callable) -> str:
    return given if isinstance(given, str) else reference(given)


def _portable(given, where: str) -> str | Callable:
    """Return the name of a network or method, "module:name" of one's own, or the object where it has none."""
    if isinstance(given, str):
        try:
            if ":" not in given or callable(imported(given)):
                return given
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if not callable(given) or not hasattr(given, "__qualname__"):
        raise ValueError(f"{where} is {given!r}; expected a name, a class or function, or 'module:name' of one.")
    return reference(given) if is_importable(given) else given


def _network(label: str, given) -> dict:
    where = f"decoders.{label}"
    given = _mapping(given, where, ("name", "build", "train"), required=["train"])
    training = _mapping(given["train"], f"{where}.train", TRAINING, required=["epochs"])
    for name, value in training.items():
        _number(value, f"{where}.train.{name}")
    counts = {name: _count(training[name], f"{where}.train.{name}") for name in COUNTS if name in training}
    return {
        "name": _portable(given.get("name", label), f"{where}.name"),
        "build": _mapping(given.get("build"), f"{where}.build"),
        "train": training | counts,
    }


def _method(label: str, given) -> dict:
    where = f"methods.{label}"
    given = {"method": label, "baseline": None, **_mapping(given, where)}
    if isinstance(given["method"], str) and ":" not in given["method"]:
        _known("method", given["method"], METHODS)
        compute = METHODS[given["method"]].compute
        if not compute.__module__.startswith("eegxai_support."):  # registered here, but not in another process
            given["method"] = compute
    given["method"] = _portable(given["method"], f"{where}.method")
    kind = method_of(given["method"])
    _mapping(given, where, ({"method", "baseline"} | options_of(given["method"])) - {"seed"})  # a fit has one seed
    baseline = given["baseline"]
    if kind.many_baselines:
        given["baseline"] = _count(N_BASELINES if baseline is None else baseline, f"{where}.baseline")
    elif baseline is not None and not kind.needs_baseline:
        raise ValueError(f"{where}.baseline is {baseline!r}, but {given['method']} takes no baseline; leave it out.")
    elif baseline is not None:
        _known("baseline", baseline, (*BASELINES, "other_class"))
    return given


def _digest(content) -> bytes:
    """SHA-256 of canonical JSON: sorted keys, no space."""
    try:
        text = to_json(content, sort_keys=True, separators=(",", ":"))
    except TypeError as error:
        raise ValueError(f"The configuration holds a value that JSON cannot ({error}).") from error
    return hashlib.sha256(text.encode()).digest()


def _mapping(given, where: str, known: Iterable[str] | None = None, required: Iterable[str] = ()) -> dict:
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise ValueError(f"{where} is {given!r}; expected names and values, as in 'name: value'.")
    for name in given if known is not None else ():
        if name not in known:
            raise unknown_name(f"key of {where}", name, known)
    if missing := [name for name in required if name not in given]:
        raise ValueError(f"{where} lacks {', '.join(missing)}.")
    return given


def _named(given, where: str) -> dict:
    """Names with or without options: a mapping, or a list of names."""
    named = dict.fromkeys(_list(given, where)) if not isinstance(given, dict) else given
    for name in named:
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where} has the name {name!r}; expected text. Put it in quotation marks.")
    return dict(_list(list(named.items()), where))


def _list(given, where: str) -> list:
    if not isinstance(given, (list, tuple)) or not given or any(it in given[:i] for i, it in enumerate(given)):
        raise ValueError(f"{where} is {given!r}; expected a list of different values, at least one.")
    return list(given)


def _number(given, where: str) -> Real:
    if isinstance(given, bool) or not isinstance(given, Real) or math.isnan(given):
        hint = " In YAML, write 1.0e-3 or 0.001: 1e-3 is text there." if isinstance(given, str) else ""
        raise ValueError(f"{where} is {given!r}; expected a number.{hint}")
    return given


def _finite(given, where: str) -> Real:
    if math.isinf(_number(given, where)):
        raise ValueError(f"{where} is {given!r}; expected a finite number.")
    return given


def _count(given, where: str, least: int = 1) -> int:
    if _finite(given, where) != int(given) or given < least:
        raise ValueError(f"{where} is {given!r}; expected a whole number, at least {int(least)}.")
    return int(given)


def _known(kind: str, name, known: Iterable[str]) -> None:
    if name not in known:
        raise unknown_name(kind, name, known)
