"""What a game's RAM means: reward, lives and end of game, as a small program of plain numbers.

`games.json` states the rules as lines of Python-like text ("score = bcd(104, 102)"). They are
compiled once, when a game is loaded, to instructions of five int32 words, and `run` interprets
them after every frame: no Numba compilation per game, and the same function runs on a GPU. There
are no jumps: `a if c else b` computes both.

The language: whole numbers, variables, `ram[i]` (128.. is the cartridge's), `mode` (the selected
game mode), + - * // % & >>, comparisons, `and` `or` (0 or 1), `a if c else b`, `min`, `max`, and

    bcd(i, j, ...)                  a decimal number from RAM bytes, least significant first
    s8(x)                           the low byte as a signed number
    lookup(x, {key: value}, other)  a table
    sum(f for it in ram[a:b, c:d])  over these bytes; f depends on `it` alone
    all_equal(ram[a:b])             1 if these bytes are equal
"""

from __future__ import annotations

import ast
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600.state import CONDITION, LIVES, MAX_VARIABLES, OVER, REWARD, VARIABLES

Array = NDArray[Any]

# An instruction: operation, destination register, operands a, b, c.
WORDS = 5
END, MOVE, ADD, SUBTRACT, MULTIPLY, DIVIDE, MODULO, BITS, SHIFT = range(9)
EQUAL, UNEQUAL, LESS, GREATER, LESS_EQUAL, GREATER_EQUAL = range(9, 15)
BOTH, EITHER, SELECT, LEAST, GREATEST, SIGNED = range(15, 21)
MULTIPLY_ADD = 21  # a * b + c
BCD, TABLE, TABLE_SUM, ALL_EQUAL = range(22, 26)  # their operands lie in the program itself

# An operand: RAM byte, register, or a constant.
FIRST_REGISTER, FIRST_CONSTANT = 256, 512
ZERO = 1 << 24  # the constant 0; constants reach from FIRST_CONSTANT - ZERO to ZERO

BINARY: dict[type[ast.AST], int] = {
    ast.Add: ADD,
    ast.Sub: SUBTRACT,
    ast.Mult: MULTIPLY,
    ast.FloorDiv: DIVIDE,
    ast.Mod: MODULO,
    ast.BitAnd: BITS,
    ast.RShift: SHIFT,
    ast.Eq: EQUAL,
    ast.NotEq: UNEQUAL,
    ast.Lt: LESS,
    ast.Gt: GREATER,
    ast.LtE: LESS_EQUAL,
    ast.GtE: GREATER_EQUAL,
    ast.And: BOTH,
    ast.Or: EITHER,
}
OUTPUTS = {"reward": REWARD, "OVER": OVER, "LIVES": LIVES, "CONDITION": CONDITION}


class Program:
    """Rules as they are compiled: `words` is what `run` takes."""

    def __init__(self, mode: int):
        self.words: list[int] = []
        self.tables: list[tuple[int, list[int]]] = []  # (word that points to it, content)
        self.registers = dict(OUTPUTS)
        self.mode = mode
        self.scratch = VARIABLES + MAX_VARIABLES  # scratch registers grow downwards

    def add(self, lines: list[str]) -> int:
        """Compile lines of "name = expression"; returns where they begin."""
        begin = len(self.words)
        for line in lines:
            statement = ast.parse(line).body[0]
            assert isinstance(statement, ast.Assign), line
            target = statement.targets[0]
            assert isinstance(target, ast.Name), line
            self.compile(statement.value, self.register(target.id))
        self.emit(END, 0)
        return begin

    def finish(self) -> Array:
        """All words, the tables behind the instructions."""
        for at, content in self.tables:
            self.words[at] = len(self.words)
            self.words += content
        self.tables = []
        return np.array(self.words, np.int32)

    def register(self, name: str) -> int:
        """The register of a variable."""
        if name not in self.registers:
            used = set(self.registers.values())
            free = [r for r in range(VARIABLES, self.scratch) if r not in used]
            assert free, "MAX_VARIABLES is too small"
            self.registers[name] = free[0]
        return self.registers[name]

    def emit(self, operation: int, target: int, *operands: int) -> None:
        self.words += [operation, target, *operands, *[0] * (WORDS - 2 - len(operands))]

    def compile(self, node: ast.expr, target: int) -> None:
        """Instructions that leave the value of an expression in a register."""
        scratch = self.scratch
        if isinstance(node, ast.Call):
            self.call(node, target)
        elif isinstance(node, ast.IfExp):
            operands = [self.operand(part) for part in (node.test, node.body, node.orelse)]
            self.emit(SELECT, target, *operands)
        elif isinstance(node, ast.BinOp) and is_product_sum(node):
            product = node.left if is_product(node.left) else node.right
            other = node.right if product is node.left else node.left
            assert isinstance(product, ast.BinOp)
            parts = (product.left, product.right, other)
            self.emit(MULTIPLY_ADD, target, *[self.operand(part) for part in parts])
        elif isinstance(node, ast.BinOp):
            operands = [self.operand(node.left), self.operand(node.right)]
            self.emit(BINARY[type(node.op)], target, *operands)
        elif isinstance(node, ast.Compare):
            operands = [self.operand(node.left), self.operand(node.comparators[0])]
            self.emit(BINARY[type(node.ops[0])], target, *operands)
        elif isinstance(node, ast.BoolOp):
            self.chain(BINARY[type(node.op)], node.values, target)
        else:
            self.emit(MOVE, target, self.operand(node))
        self.scratch = scratch

    def chain(self, operation: int, values: list[ast.expr], target: int) -> None:
        """a operation b operation c ..."""
        total = self.operand(values[0])
        for value in values[1:-1]:
            partial = self.new_scratch()
            self.emit(operation, partial, total, self.operand(value))
            total = FIRST_REGISTER + partial
        self.emit(operation, target, total, self.operand(values[-1]))

    def operand(self, node: ast.expr) -> int:
        """Where an instruction finds the value: at its own place, or computed to a scratch."""
        if isinstance(node, ast.Constant | ast.UnaryOp):
            return ZERO + int(ast.literal_eval(node))
        if isinstance(node, ast.Name):
            is_mode = node.id == "mode"
            return ZERO + self.mode if is_mode else FIRST_REGISTER + self.register(node.id)
        if isinstance(node, ast.Subscript):
            return ram_bytes(node)[0]
        scratch = self.new_scratch()
        self.compile(node, scratch)
        return FIRST_REGISTER + scratch

    def new_scratch(self) -> int:
        self.scratch -= 1
        assert self.scratch not in self.registers.values(), "MAX_VARIABLES is too small"
        return self.scratch

    def call(self, node: ast.Call, target: int) -> None:
        assert isinstance(node.func, ast.Name)
        name, arguments = node.func.id, node.args
        if name in ("min", "max", "s8"):
            operation = {"min": LEAST, "max": GREATEST, "s8": SIGNED}[name]
            self.emit(operation, target, *[self.operand(argument) for argument in arguments])
        elif name == "bcd":
            indices = [int(ast.literal_eval(argument)) for argument in arguments]
            self.emit(BCD, target, self.table(0, indices), len(indices))
        elif name == "all_equal":
            indices = ram_bytes(arguments[0])
            self.emit(ALL_EQUAL, target, self.table(0, indices), len(indices))
        elif name == "sum":
            self.table_sum(arguments[0], target)
        else:
            assert name == "lookup", name
            self.lookup(arguments, target)

    def lookup(self, arguments: list[ast.expr], target: int) -> None:
        """A table of all bytes; of two keys or fewer, and where `other` varies, comparisons."""
        key, entries, other = arguments
        assert isinstance(entries, ast.Dict)
        values = ast.literal_eval(entries)
        if isinstance(other, ast.Constant) and len(values) > 2:
            content = [int(values.get(byte, other.value)) for byte in range(256)]
            where = self.operand(key)
            self.emit(TABLE, target, where, self.table(1, content))
            return
        for byte, value in values.items():
            test = ast.Compare(key, [ast.Eq()], [ast.Constant(byte)])
            other = ast.IfExp(test, ast.Constant(value), other)
        self.compile(other, target)

    def table_sum(self, node: ast.expr, target: int) -> None:
        assert isinstance(node, ast.GeneratorExp)
        indices = ram_bytes(node.generators[0].iter)
        code = compile(ast.fix_missing_locations(ast.Expression(node.elt)), "games.json", "eval")
        content = [int(eval(code, {"it": byte})) for byte in range(256)]
        self.emit(TABLE_SUM, target, self.table(0, indices), len(indices), self.table(2, content))

    def table(self, operand: int, content: list[int]) -> int:
        """Content that operand number `operand` of the next instruction will point to."""
        self.tables.append((len(self.words) + 2 + operand, content))
        return 0


def is_product(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)


def is_product_sum(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.Add) and (is_product(node.left) or is_product(node.right))


def ram_bytes(node: ast.expr) -> list[int]:
    """The indices that `ram[3]`, `ram[3:5]` or `ram[3:5, 8:9]` names."""
    assert isinstance(node, ast.Subscript), ast.unparse(node)
    assert ast.unparse(node.value) == "ram", ast.unparse(node)
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    indices: list[int] = []
    for part in parts:
        if isinstance(part, ast.Slice):
            assert part.lower is not None
            assert part.upper is not None
            indices += range(ast.literal_eval(part.lower), ast.literal_eval(part.upper))
        else:
            indices.append(ast.literal_eval(part))
    return indices


@numba.njit(_nrt=False)
def value_of(registers, ram, i, operand):  # type: ignore[no-untyped-def]
    if operand < FIRST_REGISTER:
        return np.int64(ram[i, operand])
    if operand < FIRST_CONSTANT:
        return np.int64(registers[i, operand - FIRST_REGISTER])
    return np.int64(operand - ZERO)


@numba.njit(_nrt=False)
def run(program, registers, ram, i, at):  # type: ignore[no-untyped-def]
    """Execute the instructions at `at` up to their END on machine i."""
    while program[at] != END:
        operation = program[at]
        a = np.int64(program[at + 2])
        b = np.int64(program[at + 3])
        c = np.int64(program[at + 4])
        result = np.int64(0)
        if operation == BCD:
            for k in range(a + b - 1, a - 1, -1):
                byte = np.int64(ram[i, program[k]])
                result = 100 * result + 10 * (byte >> 4) + (byte & 15)
        elif operation == TABLE_SUM:
            for k in range(a, a + b):
                result += program[c + ram[i, program[k]]]
        elif operation == ALL_EQUAL:
            result = np.int64(1)
            for k in range(a + 1, a + b):
                result &= np.int64(ram[i, program[k]] == ram[i, program[a]])
        elif operation == TABLE:
            result = np.int64(program[b + (value_of(registers, ram, i, a) & 255)])
        else:
            x = value_of(registers, ram, i, a)
            y = value_of(registers, ram, i, b)
            z = value_of(registers, ram, i, c)
            result = calculate(operation, x, y, z)
        registers[i, program[at + 1]] = result
        at += WORDS


@numba.njit(_nrt=False)
def calculate(operation, x, y, z):  # type: ignore[no-untyped-def]
    """What an operation makes of its operands, int64."""
    if operation == MOVE:
        return x
    if operation == ADD:
        return x + y
    if operation == SUBTRACT:
        return x - y
    if operation == MULTIPLY:
        return x * y
    if operation == MULTIPLY_ADD:
        return x * y + z
    if operation == BITS:
        return x & y
    if operation == SHIFT:
        return x >> y
    if operation == EQUAL:
        return np.int64(x == y)
    if operation == UNEQUAL:
        return np.int64(x != y)
    if operation == LESS:
        return np.int64(x < y)
    if operation == GREATER:
        return np.int64(x > y)
    if operation == LESS_EQUAL:
        return np.int64(x <= y)
    if operation == GREATER_EQUAL:
        return np.int64(x >= y)
    if operation == BOTH:
        return np.int64(x != 0 and y != 0)
    if operation == EITHER:
        return np.int64(x != 0 or y != 0)
    if operation == SELECT:
        return y if x != 0 else z
    if operation == LEAST:
        return min(x, y)
    if operation == GREATEST:
        return max(x, y)
    if operation == SIGNED:
        return ((x & 255) ^ 128) - 128
    if operation == DIVIDE:
        return x // max(y, 1)
    return x % max(y, 1)  # MODULO
