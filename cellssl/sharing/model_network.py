"""model_network: an encoder in; its forward pass as readable Python that needs nothing but torch out.

The text follows from the graph of torch.export: one line for each operation. Names in it are made here or are those of
tensors, as string literals, so that nothing that stands on a card can become code.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cellssl.errors import FailedError

if TYPE_CHECKING:
    from torch import Tensor, fx, nn
    from torch.export import ExportedProgram

EXAMPLE_CELLS = 2
"""Cells of the example that is traced; the number of cells stays open."""
INLINE_NUMBERS = 64
"""A constant of so many numbers stands in the text; a larger one in a file of its own."""
INPUT = "crops"
TO_THE_END = 2**63 - 1
"""The end of a slice that has none."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]+")
HEADER = '''"""network: tensors by name and crops in, one vector per crop out; needs torch only.

Written by cellssl from the graph of the network of {name}; it is the same for any number of crops.
"""

import torch
import torch.nn.functional as F


def forward(weights, {input}):
    """Return the vectors (n, {features}) of crops (n, {channels}, {side}, {side}), which are float32 in [0, 1]."""
'''


@dataclass(frozen=True)
class PlainNetwork:
    """A network as text, and the numbers that it needs besides the tensors of its state dict."""

    text: str
    constants: Mapping[str, Tensor]
    """Large constants by the name under which the text looks them up."""


def exported(network: nn.Module, channels: int, side_px: int) -> ExportedProgram:
    """Return the graph of a network in evaluation mode, for any number of crops."""
    import torch

    example = torch.zeros(EXAMPLE_CELLS, channels, side_px, side_px)
    cells = torch.export.Dim("cells", min=1)
    with torch.no_grad():
        return torch.export.export(network.eval(), (example,), dynamic_shapes=({0: cells},), strict=False)


def plain_network(network: nn.Module, channels: int, side_px: int, name: str) -> PlainNetwork:
    """Return the forward pass of an encoder as Python.

    Raises FailedError for an operation that has no text: an argument of a kind that no encoder of cellssl uses.
    """
    program = exported(network, channels, side_px)
    writer = _Writer.of(program)
    lines = list(writer.lines(program.graph))
    shape = {"features": network.out_dim, "channels": channels, "side": side_px}
    text = HEADER.format(name=name, input=INPUT, **shape) + "\n".join(f"    {line}" for line in lines) + "\n"
    return PlainNetwork(text, writer.large)


@dataclass
class _Writer:
    """Writes one line per operation; a variable whose tensor is not needed any more is used again, to save memory."""

    names: dict[fx.Node, str]
    """What stands for the result of an operation: a variable, an entry of `weights`, or the text of a constant."""
    large: Mapping[str, Tensor]
    free: list[str] = field(default_factory=list)
    made: int = 0

    @classmethod
    def of(cls, program: ExportedProgram) -> _Writer:
        """Return a writer that knows the inputs of a graph."""
        from torch.export.graph_signature import InputKind

        placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
        names, large = {}, {}
        for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
            if spec.kind == InputKind.USER_INPUT:
                names[node] = INPUT
            elif spec.target in program.state_dict and spec.persistent is not False:
                names[node] = _tensor_text(str(spec.target))
            else:
                constant = program.constants[str(spec.target)]
                names[node] = _tensor_text(str(spec.target))
                if constant.numel() <= INLINE_NUMBERS:
                    names[node] = _constant_text(constant)
                else:
                    large[str(spec.target)] = constant
        return cls(names, large)

    def lines(self, graph: fx.Graph) -> Iterator[str]:
        """Yield the lines of the function, with a comment where a part of the network begins."""
        last_use = {used: node for node in graph.nodes for used in node.all_input_nodes}
        part = ""
        for node in graph.nodes:
            if node.op == "output":
                (result,) = node.args[0]
                yield f"return {self.names[result]}"
            if node.op != "call_function" or _name_of(node) in SKIPPED:
                continue
            dying = [one for one in node.all_input_nodes if last_use[one] is node]
            if _changes_nothing(node):  # the same tensor under two names
                self._alias(node, last_use)
                continue
            if (now := _part_of(node)) != part:
                part = now
                yield f"# {part}" if part else "# between the parts"
            text = _text_of(node, self)
            self.free += [self.names[one] for one in dying if self._is_variable(one)]
            self.names[node] = self._variable()
            if node not in last_use:
                self.free.append(self.names[node])
            yield f"{self.names[node]} = {text}"

    def _alias(self, node: fx.Node, last_use: dict[fx.Node, fx.Node]) -> None:
        """Let an operation that changes nothing stand for its input, and keep the variable as long as both need it."""
        source: Any = node.args[0]
        self.names[node] = self.names[source]
        if last_use[source] is not node:
            order = {one: number for number, one in enumerate(node.graph.nodes)}
            later = max(last_use[source], last_use.get(node, node), key=lambda one: order[one])
            last_use[source] = last_use[node] = later

    def _is_variable(self, node: fx.Node) -> bool:
        name = self.names[node]
        return re.fullmatch(r"x\d*", name) is not None and name not in self.free

    def _variable(self) -> str:
        if self.free:
            self.free.sort(key=lambda name: (len(name), name))
            return self.free.pop(0)
        self.made += 1
        return "x" if self.made == 1 else f"x{self.made}"

    def argument(self, value: Any) -> str:
        """Return the text of an argument of an operation."""
        import torch

        match value:
            case torch.fx.Node():
                text = self.names[value]
            case list() | tuple():
                inside = ", ".join(map(self.argument, value))
                text = f"({inside},)" if len(value) == 1 else f"({inside})"
            case torch.device():
                text = f"{INPUT}.device"  # wherever the crops are
            case torch.dtype() | torch.memory_format():
                text = str(value)
            case float() if not math.isfinite(value):
                text = f'float("{value}")'
            case bool() | int() | float() | str() | None:
                text = repr(value)
            case _:
                raise FailedError(
                    f"an argument of the network is of the type {type(value).__name__}, which has no text",
                    hint="choose another encoder, and tell the authors of cellssl which one it was",
                )
        return text


def _tensor_text(name: str) -> str:
    return f'weights["{name}"]' if PLAIN_NAME.fullmatch(name) else f"weights[{name!r}]"


def _constant_text(constant: Tensor) -> str:
    return f"torch.tensor({constant.tolist()!r}, dtype={constant.dtype}, device={INPUT}.device)"


def _part_of(node: fx.Node) -> str:
    """Return the name of the part of the network that an operation belongs to, such as layer1.0."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    part = ".".join(path.split(".")[:2])
    return part if PLAIN_NAME.fullmatch(part) else ""


SKIPPED = ("aten._assert_tensor_metadata.default",)
"""Operations without a result, that only check what holds for every input of this kind."""


def _name_of(node: fx.Node) -> str:
    return str(node.target)


def _changes_nothing(node: fx.Node) -> bool:
    return _name_of(node) == "aten.dropout.default" and node.args[2] is False


Written = Callable[[dict[str, Any], _Writer], str]


def _text_of(node: fx.Node, writer: _Writer) -> str:
    """Return the right side of the line of an operation."""
    if node.target is operator.getitem:
        return f"{writer.argument(node.args[0])}[{writer.argument(node.args[1])}]"
    if (sign := SIGNS.get(node.target)) is not None:
        return f" {sign} ".join(writer.argument(one) for one in node.args)
    name = _name_of(node)
    given = _by_name(node)
    if name in SPELLED and (text := SPELLED[name](given, writer)):
        return text
    words = _list(node, writer)
    if name in FUNCTIONS:
        return f"{FUNCTIONS[name]}({words})"
    if not re.fullmatch(r"aten\.\w+\.\w+", name):
        raise FailedError(
            f"the network calls {name}, which has no text",
            hint="choose another encoder, and tell the authors of cellssl which one it was",
        )
    return f"torch.ops.{name}({words})"


def _list(node: fx.Node, writer: _Writer) -> str:
    texts = [writer.argument(one) for one in node.args]
    texts += [f"{name}={writer.argument(one)}" for name, one in node.kwargs.items()]
    return ", ".join(texts)


def _by_name(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of an operation by the names of its schema; those that are not given are left out."""
    schema = getattr(node.target, "_schema", None)
    names = [one.name for one in schema.arguments] if schema else []
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


SIGNS: Mapping[Any, str] = {operator.mul: "*", operator.add: "+", operator.sub: "-", operator.floordiv: "//"}
"""Operations on the number of crops."""
FUNCTIONS = {
    **{f"aten.{name}.default": f"F.{name}" for name in ("conv2d", "linear", "adaptive_avg_pool2d", "pad")},
    **{f"aten.{name}.default": f"F.{name}" for name in ("max_pool2d", "scaled_dot_product_attention", "relu", "silu")},
    **{f"aten.{name}.default": f"F.{name}" for name in ("gelu", "hardtanh", "hardtanh_", "relu_")},
    **{f"aten.{name}.default": f"torch.{name}" for name in ("reshape", "permute", "sigmoid", "neg", "cat", "stack")},
    **{f"aten.{name}.default": f"torch.{name}" for name in ("unsqueeze", "chunk", "sin", "cos")},
    **{f"aten.{name}.int": f"torch.{name}" for name in ("transpose", "unbind", "unflatten", "select")},
    "aten.flatten.using_ints": "torch.flatten",
    "aten.pow.Scalar": "torch.pow",
}
"""Operations that torch also has under this name, with the same arguments."""


def _sign(sign: str) -> Written:
    """Return how arithmetic is spelled; nothing where it has more arguments than two."""

    def text(given: dict[str, Any], writer: _Writer) -> str:
        return f" {sign} ".join(map(writer.argument, given.values())) if set(given) == {"self", "other"} else ""

    return text


def _method(name: str) -> Written:
    """Return how a method of a tensor is spelled."""

    def text(given: dict[str, Any], writer: _Writer) -> str:
        first, *others = given.values()
        plain = set(given) <= {"self", "other", "size", "dtype", "device"}
        return f"{writer.argument(first)}.{name}({', '.join(map(writer.argument, others))})" if plain else ""

    return text


def _batch_norm(given: dict[str, Any], writer: _Writer) -> str:
    names = ("input", "running_mean", "running_var", "weight", "bias")
    values = ", ".join(writer.argument(given[name]) for name in names)
    return f"F.batch_norm({values}, eps={writer.argument(given['eps'])})" if not given["training"] else ""


def _layer_norm(given: dict[str, Any], writer: _Writer) -> str:
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    return f"F.layer_norm({', '.join(writer.argument(given[name]) for name in names if name in given)})"


def _mean(given: dict[str, Any], writer: _Writer) -> str:
    if given.get("dtype") is not None:
        return ""
    keep = ", keepdim=True" if given.get("keepdim") else ""
    return f"{writer.argument(given['self'])}.mean({writer.argument(given['dim'])}{keep})"


def _slice(given: dict[str, Any], writer: _Writer) -> str:
    dim, step = given.get("dim", 0), given.get("step", 1)
    if type(dim) is not int or dim < 0 or step != 1:
        return ""
    start, end = given.get("start"), given.get("end")
    begin = "" if start in (None, 0) else writer.argument(start)
    stop = "" if end in (None, TO_THE_END) else writer.argument(end)
    return f"{writer.argument(given['self'])}[{':, ' * dim}{begin}:{stop}]"


def _resize(mode: str) -> Written:
    """Return how a resize is spelled that averages what it makes smaller."""

    def text(given: dict[str, Any], writer: _Writer) -> str:
        if given.get("output_size") is None or given.get("scale_factors") is not None:
            return ""
        size, corners = writer.argument(given["output_size"]), given["align_corners"]
        aligned = ", align_corners=True" if corners else ""
        return f'F.interpolate({writer.argument(given["input"])}, {size}, mode="{mode}"{aligned}, antialias=True)'

    return text


def _contiguous(given: dict[str, Any], writer: _Writer) -> str:
    layout = given.get("memory_format")
    chosen = "" if layout is None else f"memory_format={writer.argument(layout)}"
    return f"{writer.argument(given['self'])}.contiguous({chosen})"


def _arange(given: dict[str, Any], writer: _Writer) -> str:
    bounds = [writer.argument(given[name]) for name in ("start", "end") if name in given]
    named = [f"{name}={writer.argument(given[name])}" for name in ("dtype", "device") if given.get(name) is not None]
    return f"torch.arange({', '.join(bounds + named)})"


def _meshgrid(given: dict[str, Any], writer: _Writer) -> str:
    return f"torch.meshgrid(*{writer.argument(given['tensors'])}, indexing={given['indexing']!r})"


def _count(given: dict[str, Any], writer: _Writer) -> str:
    return f"{writer.argument(given['self'])}.shape[{given['dim']:d}]"


SPELLED: Mapping[str, Written] = {
    "aten.add.Tensor": _sign("+"),
    "aten.sub.Tensor": _sign("-"),
    "aten.mul.Tensor": _sign("*"),
    "aten.div.Tensor": _sign("/"),
    "aten.add_.Tensor": _method("add_"),
    "aten.mul_.Tensor": _method("mul_"),
    "aten.silu_.default": lambda given, writer: f"F.silu({writer.argument(given['self'])}, inplace=True)",
    "aten.expand.default": _method("expand"),
    "aten.view.default": _method("view"),
    "aten.contiguous.default": _contiguous,
    "aten.arange.default": _arange,
    "aten.arange.start": _arange,
    "aten.meshgrid.indexing": _meshgrid,
    "aten.type_as.default": _method("type_as"),
    "aten.to.dtype": _method("to"),
    "aten.to.device": _method("to"),
    "aten.batch_norm.default": _batch_norm,
    "aten.layer_norm.default": _layer_norm,
    "aten.mean.dim": _mean,
    "aten.slice.Tensor": _slice,
    "aten.sym_size.int": _count,
    "aten._upsample_bilinear2d_aa.vec": _resize("bilinear"),
    "aten._upsample_bicubic2d_aa.vec": _resize("bicubic"),
}
"""Operations that read better in another spelling; "" where these arguments have none."""
