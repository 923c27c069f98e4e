"""`init.multipliers`: the law alone where the multipliers are a recipe; where they are the method, a line says so."""

from dataclasses import replace

import pytest
from of_config import checked, identify, make_task, scheme_of

from addnorm_exp.config import Config, override
from addnorm_exp.errors import UserError
from addnorm_exp.manual.schemes import in_full
from addnorm_exp.residual import SchemeError, catalogue, sites
from addnorm_exp.residual.contract import Depths
from addnorm_exp.residual.vocabulary import ENDS_ROLES, ROLES

WITH = [name for name in catalogue.names() if catalogue.get(name).scales_init]
METHODS = ["deepnorm", "sub_ln", "ds_init", "fixup", "t_fixup", "simplified", "value_skipinit"]
RECIPES = [name for name in WITH if name not in METHODS]


def config(**keys):
    return checked(override(Config(), {key.replace("__", "."): value for key, value in keys.items()}))


def test_fourteen_schemes_multiply_the_law():
    assert len(WITH) == 14
    assert {name: catalogue.get(name).multipliers for name in WITH} == (
        dict.fromkeys(METHODS, "method") | dict.fromkeys(RECIPES, "recipe")
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_method_keeps_its_multipliers(name):
    with pytest.raises(
        UserError, match=rf"init\.multipliers='none': the init multipliers of scheme '{name}'"
    ) as caught:
        config(scheme=name, init__multipliers="none")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_of_a_recipe_the_law_alone_is_left(name):
    scheme = scheme_of(config(scheme=name, init__multipliers="none"))
    places = [site.at(kind) for site in sites("decoder", Depths(decoder=4)) for kind in (*site.sublayers, "ends")]
    assert {scheme.init(site, role) for site in places for role in (*ROLES, *ENDS_ROLES)} == {1.0}


def test_the_model_is_drawn_from_the_law_alone():
    def scales(name, **keys):
        specs = make_task(config(scheme=name, init__law="xavier", norm__kind="layer", **keys)).model.specs
        return {path: spec.init for path, spec in specs.items()}

    assert scales("sandwich_ln") != scales("peri_ln")
    assert scales("sandwich_ln", init__multipliers="none") == scales("peri_ln")


def test_depth_scaled_goes_with_a_recipe_that_is_taken_off():
    with pytest.raises(UserError, match=r"init\.multipliers=none"):
        config(scheme="gpt2", init__depth_scaled=True)
    given = config(scheme="gpt2", init__depth_scaled=True, init__multipliers="none")
    drawn, published = (make_task(each).model.specs for each in (given, config(scheme="gpt2")))
    assert drawn.keys() == published.keys()
    for path, spec in drawn.items():
        theirs = published[path].init
        assert (spec.init.draw, spec.init.hypers) == (theirs.draw, theirs.hypers)
        assert spec.init.scale == pytest.approx(theirs.scale, rel=1e-12), path
    with pytest.raises(UserError, match="leave it unset") as caught:
        config(scheme="deepnorm", init__depth_scaled=True)
    assert "multipliers=none" not in str(caught.value)


def test_taking_off_what_a_scheme_has_not_is_the_same_run():
    for scheme, same in (("pre_ln", True), ("sandwich_ln", False)):
        first, second = config(scheme=scheme), config(scheme=scheme, init__multipliers="none")
        assert (identify(first, "a") == identify(second, "a")) == same


def test_a_record_with_multipliers_says_what_they_are():
    gpt2 = catalogue.get("gpt2")
    with pytest.raises(SchemeError, match="scheme 'gpt2' has init multipliers; say what they are"):
        replace(gpt2, multipliers=None).check(sites("decoder", Depths(decoder=2)))


def test_the_page_of_a_scheme_says_it():
    assert "a recipe (init.multipliers=none removes them)" in in_full(catalogue.get("gpt2"))
    assert "part of the method" in in_full(catalogue.get("deepnorm"))
    assert "multipliers" not in in_full(catalogue.get("pre_ln"))
