"""Mermaid diagrams of a scheme's blocks, drawn from its record: what stands before the body, in it, on the skip, on the branch, after the
sum."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from addnorm_exp.residual.contract import Depths, Site
from addnorm_exp.residual.norms import KINDS, NormSpec
from addnorm_exp.residual.plan import At, Chain, Sum
from addnorm_exp.residual.rule import Learned, Rule
from addnorm_exp.residual.scheme import Scheme, sites
from addnorm_exp.residual.variables import Coefficient

CONSTANT = re.compile(r"(?:×|t /) [\d.e+-]+")


@dataclass
class _Drawing:
    """Lines of one flowchart; nodes are n0, n1, … in the order in which they are drawn. `inside`: sublayer → its options in words."""

    inside: dict[str, str]
    lines: list[str] = field(default_factory=lambda: ["flowchart TD"])
    count: int = 0

    def node(self, text: str, *sources: str, shape: str = "[]", over: str = "") -> str:
        """A node that arrows lead to from `sources`, the last of them with the words `over`."""
        name, self.count = f"n{self.count}", self.count + 1
        half = len(shape) // 2
        self.lines.append(f'    {name}{shape[:half]}"{text}"{shape[half:]}')
        for number, source in enumerate(sources):
            words = f'|"{over}"|' if over and number == len(sources) - 1 else ""
            self.lines.append(f"    {source} -->{words} {name}")
        return name

    def optional(self, norm: NormSpec | None, source: str) -> str:
        """The node of a norm after `source`, or `source` where there is none."""
        return source if norm is None or norm.kind == "none" else self.node(norm_name(norm), source)


def norm_name(norm: NormSpec) -> str:
    return KINDS[norm.kind].title


def in_words(options: Mapping[str, Any]) -> str:
    """What a scheme sets by keywords, in words: `qk_norm full, head_scale, hidden_norm LayerNorm`."""
    return ", ".join(name if value is True else f"{name} {_value(value)}" for name, value in options.items())


def _value(value: Any) -> str:
    return norm_name(value) if isinstance(value, NormSpec) else str(value)


def diagrams(scheme: Scheme, depth: int = 12, stack: str = "decoder") -> list[tuple[str, str]]:
    """[(which blocks, Mermaid flowchart)], one for each kind of block that a stack of that depth has, first to last.

    Blocks that differ in constants alone are of one kind; a constant of theirs is told as its first and last value, `× 0.71 … 0.29`.
    """
    depths = Depths(**{stack: depth})
    kinds: dict[str, list[tuple[int, str]]] = {}
    for site in sites(stack, depths):
        drawing = _block(scheme, site)
        kinds.setdefault(CONSTANT.sub("×", drawing), []).append((site.block + 1, drawing))
    return [
        (_ranges([block for block, _ in alike]), _together([drawing for _, drawing in alike]))
        for alike in kinds.values()
    ]


def _together(drawings: list[str]) -> str:
    """One drawing of several that differ in their constants."""
    columns = zip(*map(CONSTANT.findall, drawings), strict=True)
    values = iter([one[0] if len(set(one)) == 1 else f"{one[0]} … {one[-1].rpartition(' ')[2]}" for one in columns])
    return CONSTANT.sub(lambda _: next(values), drawings[0])


def _block(scheme: Scheme, site: Site) -> str:
    drawing = _Drawing({kind: in_words(scheme.sublayer_options(site.at(kind))) for kind in site.sublayers})
    stream = drawing.node("x", shape="(())")
    for at in scheme.plan(site):
        stream = _connection(drawing, at, stream)
    drawing.node("x", stream, shape="(())")
    return "\n".join(drawing.lines)


def _connection(drawing: _Drawing, at: At, source: str) -> str:
    if not isinstance(at.rule, Rule):
        return _special(drawing, at, at.rule, source)
    rule = at.rule
    stream = drawing.optional(rule.stream, source)
    branch = drawing.optional(rule.pre, stream)
    if rule.pre_scale != 1.0:
        branch = drawing.node(_coefficient(rule.pre_scale), branch, shape="([])")
    if rule.shift is not None:
        branch = drawing.node(f"+ {_learned(rule.shift)}", branch, shape="([])")
    branch = drawing.optional(rule.branch, _body(drawing, at, branch))
    if rule.scale != 1.0:
        branch = drawing.node(_coefficient(rule.scale), branch, shape="([])")
    branch = _faded(drawing, at, branch)
    if rule.skip != 0.0:
        over = "" if rule.skip == 1.0 else _coefficient(rule.skip)
        branch = drawing.node("+", branch, stream, shape="(())", over=over)
    return drawing.optional(rule.post, branch)


def _special(drawing: _Drawing, at: At, record: Any, source: str) -> str:
    """A connection with a topology of its own: its two verbs in its own words."""
    read = drawing.node(record.said("reads"), source, shape="[[]]")
    branch = _faded(drawing, at, _body(drawing, at, read))
    return drawing.node(record.said("writes"), branch, source, shape="[[]]", over="state")


def _faded(drawing: _Drawing, at: At, branch: str) -> str:
    return branch if at.fade is None else drawing.node(f"× min(1, t / {at.fade.steps:g})", branch, shape="([])")


def _body(drawing: _Drawing, at: At, source: str) -> str:
    if isinstance(at.body, Chain):
        for part in at.body.parts:
            source = _connection(drawing, part, source)
        return source
    names = at.body.names if isinstance(at.body, Sum) else (at.body,)
    ends = [drawing.node(_sublayer(name, drawing.inside[name]), source, shape="([])") for name in names]
    if isinstance(at.body, Sum) and at.body.scales:
        scales = zip(at.body.scales, ends, strict=True)
        ends = [drawing.node(_coefficient(scale), end, shape="([])") for scale, end in scales]
    return ends[0] if len(ends) == 1 else drawing.node("+", *ends, shape="(())")


def _sublayer(name: str, options: str) -> str:
    return name.replace("_", " ") + (f"<br/>{options}" if options else "")


def _coefficient(value: float | Learned | Coefficient) -> str:
    if isinstance(value, Coefficient):
        return f"× {value.name}, {value.default:.4g} unless set"
    if not isinstance(value, Learned):
        return f"× {value:.4g}"
    return f"× {_learned(value)}"


def _learned(value: Learned) -> str:
    whose = " of the block" if value.shared else ""
    return f"learned {value.shape}{whose}, {value.init:.4g} at init"


def _ranges(blocks: list[int]) -> str:
    """[1, 2, 3, 7] → blocks 1-3, 7."""
    runs = [
        [block for _, block in run] for _, run in itertools.groupby(enumerate(blocks), lambda pair: pair[1] - pair[0])
    ]
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
    return f"block {text}" if len(blocks) == 1 else f"blocks {text}"
