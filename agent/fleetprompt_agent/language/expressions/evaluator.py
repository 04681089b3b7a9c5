"""The syntax tree to closures: one Python function for each node, made once and run often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from fleetprompt_agent.language.expressions.errors import ExpressionError
from fleetprompt_agent.language.expressions.evaluation import Evaluation, fault
from fleetprompt_agent.language.expressions.functions import CALLS, negation
from fleetprompt_agent.language.expressions.operators import OPERATORS, negate
from fleetprompt_agent.language.expressions.syntax import (
    Call,
    Chain,
    Conditional,
    Has,
    ListOf,
    Literal,
    Local,
    Logic,
    Macro,
    MapOf,
    Node,
    Path,
    StepName,
    Unary,
    Variable,
)
from fleetprompt_agent.language.expressions.values import described

if TYPE_CHECKING:
    from collections.abc import Callable

    Evaluate: TypeAlias = Callable[[Evaluation], Any]

_ABSORBED_STEPS = 6
"""Making, raising and catching an error takes some six microseconds."""


def compile_node(node: Node) -> Evaluate:
    """The function that evaluates `node`."""
    match node:
        case Path():
            return _path(node)
        case Literal():
            value = node.value
            return lambda _e: value
        case Variable():
            return _variable(node)
        case Chain():
            return _chain(node)
        case Local():
            slot = node.slot
            return lambda e: e.locals[slot]
        case StepName():
            return _step(node)
        case Logic():
            return _logic(node)
        case Has():
            return _has(node)
        case Call():
            return _call(node)
        case Macro():
            return _macro(node)
        case Unary():
            return _unary(node)
        case Conditional():
            return _conditional(node.condition, node.then, node.otherwise)
        case ListOf():
            return _list(node)
        case MapOf():
            return _map(node)


def _variable(node: Variable) -> Evaluate:
    name = node.name

    def variable(e: Evaluation) -> Any:
        try:
            return e.scope[name]
        except KeyError:
            known = ", ".join(sorted(e.scope)) or "nothing"
            message = f"no `{name}` here; there is {known}"
            raise fault("unknown", message, node) from None

    return variable


def _step(node: StepName) -> Evaluate:
    """`$name`: the loop's item when it has this name, else the step."""
    name = node.name

    def step(e: Evaluation) -> Any:
        scope = e.scope
        if name in scope:
            return scope[name]
        steps = scope.get("steps")
        return steps.get(name) if type(steps) is dict else None

    return step


def _path(node: Path) -> Evaluate:
    base = compile_node(node.base)
    through_null = _is_in_steps(node)
    fields = [segment for segment in node.segments if isinstance(segment, str)]
    if len(fields) == len(node.segments):

        def fields_of(e: Evaluation) -> Any:
            value = base(e)
            for field in fields:
                if type(value) is dict and field in value:
                    value = value[field]
                else:
                    value = _missing_field(value, field, node, through_null)
            return value

        return fields_of

    segments = tuple(
        segment if isinstance(segment, str) else compile_node(segment) for segment in node.segments
    )

    def selected(e: Evaluation) -> Any:
        value = base(e)
        for segment in segments:
            if isinstance(segment, str):
                if type(value) is dict and segment in value:
                    value = value[segment]
                else:
                    value = _missing_field(value, segment, node, through_null)
            else:
                value = _indexed(value, segment(e), node, through_null)
        return value

    return selected


def _is_in_steps(node: Path) -> bool:
    base = node.base
    return isinstance(base, StepName) or (isinstance(base, Variable) and base.name == "steps")


def _missing_field(value: Any, field: str, node: Path, through_null: bool) -> Any:
    """What selecting a field gives that is not there: null beneath `steps`, else an error."""
    if type(value) is dict:
        if through_null:
            return None
        raise fault("missing", f"no `{_short(field)}` here; {_keys_of(value)}", node)
    if value is None and through_null:
        return None
    message = f"`.{_short(field)}` needs a map, not {described(value)}"
    raise fault("type", message, node)


def _indexed(value: Any, index: Any, node: Path, through_null: bool) -> Any:
    kind = type(index)
    if type(value) is list:
        if kind is float and index.is_integer():
            index = int(index)
        elif kind is not int:
            raise fault("type", f"a list's index is an int, not {described(index)}", node)
        if 0 <= index < len(value):
            return value[index]
        if through_null:
            return None
        raise fault("missing", f"no item {index} in a list of {len(value)}", node)
    if type(value) is dict:
        if kind is str and index in value:
            return value[index]
        if kind not in (str, int, bool, float):
            raise fault("type", f"a map's key is a string, not {described(index)}", node)
        if through_null:
            return None
        raise fault("missing", f"no key `{_short(str(index))}` here; {_keys_of(value)}", node)
    if value is None and through_null:
        return None
    raise fault("type", f"`[…]` needs a list or a map, not {described(value)}", node)


def _keys_of(value: dict[str, Any]) -> str:
    if not value:
        return "it is empty"
    shown = [_short(str(key)) for _, key in zip(range(5), value, strict=False)]
    more = ", …" if len(value) > len(shown) else ""
    return f"it has {', '.join(shown)}{more}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def _has(node: Has) -> Evaluate:
    path = node.path
    through_null = _is_in_steps(path)
    last = path.segments[-1]
    holder_node = (
        Path(path.base, path.segments[:-1], path.start, path.end, path.depth)
        if len(path.segments) > 1
        else path.base
    )
    holder = compile_node(holder_node)

    def has(e: Evaluation) -> bool:
        value = holder(e)
        if type(value) is dict:
            return last in value
        if value is None and through_null:
            return False
        raise fault("type", f"`has` looks into a map, not {described(value)}", node)

    return has


def _call(node: Call) -> Evaluate:
    if node.name == "cond":
        return _conditional(*node.arguments)
    if node.name == "default":
        return _default(node)
    function = CALLS[node.name]
    arguments = [compile_node(argument) for argument in node.arguments]
    if len(arguments) == 1:
        (only,) = arguments
        return lambda e: function(e, node, only(e))
    if len(arguments) == 2:
        first, second = arguments
        return lambda e: function(e, node, first(e), second(e))
    return lambda e: function(e, node, *[argument(e) for argument in arguments])


def _default(node: Call) -> Evaluate:
    """`default(x, y)`: y where x is null or not there."""
    wanted, otherwise = (compile_node(argument) for argument in node.arguments)

    def default(e: Evaluation) -> Any:
        try:
            value = wanted(e)
        except ExpressionError as error:
            if error.kind != "missing":
                raise
            e.spend(_ABSORBED_STEPS, node)
            value = None
        return otherwise(e) if value is None else value

    return default


def _conditional(condition_node: Node, then_node: Node, otherwise_node: Node) -> Evaluate:
    condition = compile_node(condition_node)
    then = compile_node(then_node)
    otherwise = compile_node(otherwise_node)

    def conditional(e: Evaluation) -> Any:
        chosen = condition(e)
        if chosen is True:
            return then(e)
        if chosen is False:
            return otherwise(e)
        message = f"the condition is a bool, not {described(chosen)}"
        raise fault("type", message, condition_node)

    return conditional


def _unary(node: Unary) -> Evaluate:
    operand = compile_node(node.operand)
    operation = negation if node.operator == "!" else negate
    return lambda e: operation(e, node, operand(e))


def _chain(node: Chain) -> Evaluate:
    first = compile_node(node.first)
    if len(node.rest) == 1:
        operator, right_node = node.rest[0]
        operation = OPERATORS[operator]
        right = compile_node(right_node)
        return lambda e: operation(e, node, first(e), right(e))
    rest = [(OPERATORS[operator], compile_node(operand)) for operator, operand in node.rest]

    def chain(e: Evaluation) -> Any:
        value = first(e)
        for operation, operand in rest:
            value = operation(e, node, value, operand(e))
        return value

    return chain


def _logic(node: Logic) -> Evaluate:
    """`&&` and `||`: an operand that decides the result hides an error in another, as in CEL."""
    operands = [compile_node(operand) for operand in node.operands]
    undecided = node.operator == "&&"

    def logic(e: Evaluation) -> bool:
        error: ExpressionError | None = None
        for place, operand in enumerate(operands):
            try:
                value = operand(e)
            except ExpressionError as raised:
                if raised.kind == "limit":
                    raise
                e.spend(_ABSORBED_STEPS, node)
                error = error or raised
                continue
            if type(value) is bool:
                if value is not undecided:
                    return value
            elif error is None:
                message = f"`{node.operator}` needs bools, not {described(value)}"
                error = fault("type", message, node.operands[place])
        if error is not None:
            raise error
        return undecided

    return logic


def _macro(node: Macro) -> Evaluate:
    target = compile_node(node.target)
    cost = 1 + node.weight // 6

    def items_of(e: Evaluation) -> Any:
        value = target(e)
        if type(value) is list or type(value) is dict:
            return value
        message = f"`{node.kind}` goes over a list or a map, not {described(value)}"
        raise fault("type", message, node)

    match node.kind:
        case "all" | "exists":
            return _quantifier(node, items_of, cost)
        case "exists_one":
            return _exists_one(node, items_of, cost)
        case _:
            return _collected(node, items_of, cost)


def _quantifier(node: Macro, items_of: Evaluate, cost: int) -> Evaluate:
    predicate = _predicate(node)
    slot = node.slot
    undecided = node.kind == "all"

    def quantified(e: Evaluation) -> bool:
        error: ExpressionError | None = None
        for item in items_of(e):
            e.spend(cost, node)
            e.locals[slot] = item
            try:
                if predicate(e) is not undecided:
                    return not undecided
            except ExpressionError as raised:
                if raised.kind == "limit":
                    raise
                e.spend(_ABSORBED_STEPS, node)
                error = error or raised
        if error is not None:
            raise error
        return undecided

    return quantified


def _exists_one(node: Macro, items_of: Evaluate, cost: int) -> Evaluate:
    predicate = _predicate(node)
    slot = node.slot

    def exists_one(e: Evaluation) -> bool:
        found = 0
        for item in items_of(e):
            e.spend(cost, node)
            e.locals[slot] = item
            found += predicate(e)
        return found == 1

    return exists_one


def _collected(node: Macro, items_of: Evaluate, cost: int) -> Evaluate:
    """`map` and `filter`."""
    predicate = _predicate(node) if node.predicate is not None else None
    transform = compile_node(node.transform) if node.transform is not None else None
    slot = node.slot

    def collected(e: Evaluation) -> list[Any]:
        kept: list[Any] = []
        for item in items_of(e):
            e.spend(cost, node)
            e.locals[slot] = item
            if predicate is None or predicate(e):
                kept.append(transform(e) if transform is not None else item)
        e.allocate(8 * len(kept), node)
        return kept

    return collected


def _predicate(node: Macro) -> Evaluate:
    """The predicate of a macro, which must give a bool."""
    assert node.predicate is not None  # noqa: S101 - the parser gives every macro but map one
    body_node = node.predicate
    body = compile_node(body_node)

    def predicate(e: Evaluation) -> bool:
        value = body(e)
        if type(value) is bool:
            return value
        raise fault("type", f"`{node.kind}` needs a bool, not {described(value)}", body_node)

    return predicate


def _list(node: ListOf) -> Evaluate:
    items = [compile_node(item) for item in node.items]

    def list_of(e: Evaluation) -> list[Any]:
        e.spend(1, node)
        e.allocate(8 * len(items), node)
        return [item(e) for item in items]

    return list_of


def _map(node: MapOf) -> Evaluate:
    entries = [(compile_node(key), key, compile_node(value)) for key, value in node.entries]

    def map_of(e: Evaluation) -> dict[str, Any]:
        e.spend(1, node)
        e.allocate(64 * len(entries), node)
        made: dict[str, Any] = {}
        for key, key_node, value in entries:
            name = key(e)
            if type(name) is not str:
                raise fault("type", f"a map's key is a string, not {described(name)}", key_node)
            if name in made:
                raise fault("type", f"the key `{_short(name)}` stands twice", key_node)
            made[name] = value(e)
        return made

    return map_of
