"""The references: one file a method, named as `swbench ls methods` names it.

A file sets
- REFERENCE: its class (base.Method), or VARIANTS: classes by the parameter `variant`, and
  DEFAULT_VARIANT;
- VARIATIONS: parameters, beside the defaults, to test under a matched budget (may be left out);
- NATIVE_VARIATIONS: the same for its native rule, with sizes that leave a choice at a few hundred
  tokens (may be left out);
- FIXED: parameters that the class takes and the method has not (may be left out).

dense has none: it selects nothing."""

import importlib
import pathlib

HERE = pathlib.Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("[a-z]*.py"))


def reference(name):
    assert name in NAMES, (
        f"method {name} has no reference: add tests/reference/methods/{name}.py "
        "(tests/reference/methods/__init__.py says what it holds)"
    )
    return importlib.import_module(f".{name}", __name__)


def variant(name, params):
    """The form that `params` asks for; None for a method that has but one."""
    own = reference(name)
    return params.get("variant", own.DEFAULT_VARIANT) if hasattr(own, "VARIANTS") else None


def kind(name, params):
    own = reference(name)
    return own.VARIANTS[variant(name, params)] if hasattr(own, "VARIANTS") else own.REFERENCE


def make(name, tensors, block, dense_layers, seed, **params):
    of = kind(name, params)
    params.pop("variant", None)
    params |= getattr(reference(name), "FIXED", {})
    return of(tensors, block, dense_layers, seed, **params)


def defaults(name, params, budget="matched"):
    """All parameters of a method at their defaults. params: as in a config; `variant` decides."""
    of = kind(name, params)
    own = {"block_size": 64, **of.defaults, **(of.native_defaults if budget == "native" else {})}
    if variant(name, params):
        own["variant"] = variant(name, params)
    for fixed in getattr(reference(name), "FIXED", {}):
        own.pop(fixed)
    return own


def matched_cases(name):
    """Parameters to test under a matched budget, the defaults first."""
    return [{}, *getattr(reference(name), "VARIATIONS", [])]


def native_cases(name):
    """The same under the native budget: none where the method has no rule of its own."""
    cases = [{}, *getattr(reference(name), "NATIVE_VARIATIONS", [])]
    return [params for params in cases if kind(name, params).has_native_rule]
