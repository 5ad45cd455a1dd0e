#include "scorer/pickle.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARKS_MAX 4096
#define MEMO_MAX (1u << 16)
#define LINE_BYTES_MAX 256
#define NOTHING UINT32_MAX

enum kind { NONE, BOOL, INT, FLOAT, TEXT, BYTES, LIST, TUPLE, DICT, GLOBAL, DTYPE, ARRAY };
static const char *const kind_names[] = {"None",   "a bool",   "an int",  "a float",
                                         "a str",  "bytes",    "a list",  "a tuple",
                                         "a dict", "a global", "a dtype", "an array"};

enum global {
    G_SCALAR,
    G_RECONSTRUCT,
    G_NDARRAY,
    G_DTYPE,
    G_FROMBUFFER,
    G_ENCODE,
    G_ORDERED_DICT,
    G_BYTEARRAY
};
static const struct {
    const char *module, *name;
    enum global is;
} globals[] = {
    {"numpy.core.multiarray", "scalar", G_SCALAR},
    {"numpy._core.multiarray", "scalar", G_SCALAR},
    {"numpy.core.multiarray", "_reconstruct", G_RECONSTRUCT},
    {"numpy._core.multiarray", "_reconstruct", G_RECONSTRUCT},
    {"numpy", "ndarray", G_NDARRAY},
    {"numpy", "dtype", G_DTYPE},
    {"numpy.core.numeric", "_frombuffer", G_FROMBUFFER},
    {"numpy._core.numeric", "_frombuffer", G_FROMBUFFER},
    {"_codecs", "encode", G_ENCODE},
    {"collections", "OrderedDict", G_ORDERED_DICT},
    {"builtins", "bytearray", G_BYTEARRAY},
    {"__builtin__", "bytearray", G_BYTEARRAY},
};

struct value {
    enum kind kind;
    int64_t i;            /* BOOL, INT; GLOBAL: which; DTYPE: bytes of an element */
    double d;             /* FLOAT */
    const uint8_t *bytes; /* TEXT, BYTES: borrowed from the input, or from `owned` */
    size_t n;
    uint8_t *owned;
    uint32_t *child; /* LIST, TUPLE, DICT (key, value in turn); ARRAY: shape, dtype, data */
    uint32_t count, room;
    char type; /* DTYPE: f i u b, or ? for another one */
    bool big;  /* DTYPE: big-endian */
};

struct machine {
    const uint8_t *at, *begin, *end;
    struct value *value;
    uint32_t values, values_room;
    uint32_t *stack;
    size_t depth, stack_room;
    size_t mark[MARKS_MAX], marks;
    uint32_t *memo; /* [MEMO_MAX] */
    uint32_t memo_next;
    size_t text_left; /* bytes that may yet be copied */
    struct err *e;
};

static int refuse(struct machine *m, const char *what)
{
    err_set(m->e, ERR_INVALID, "pickle, byte %zu: %s", (size_t)(m->at - m->begin), what);
    return -1;
}

/* A text that is shared costs its bytes each time that it is copied. */
static int charge(struct machine *m, size_t n)
{
    if (n > m->text_left)
        return refuse(m, "too much text");
    m->text_left -= n;
    return 0;
}

/* ---- bytes ---- */

static int take(struct machine *m, size_t n, const uint8_t **out)
{
    if ((size_t)(m->end - m->at) < n)
        return refuse(m, "it is cut short");
    *out = m->at;
    m->at += n;
    return 0;
}

static int take_uint(struct machine *m, size_t n, uint64_t *out)
{
    const uint8_t *p;
    if (take(m, n, &p) < 0)
        return -1;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out |= (uint64_t)p[i] << (8 * i);
    return 0;
}

/* The rest of the line. */
static int take_line(struct machine *m, char out[LINE_BYTES_MAX])
{
    const uint8_t *const end = memchr(m->at, '\n', (size_t)(m->end - m->at));
    if (end == NULL || end - m->at >= LINE_BYTES_MAX)
        return refuse(m, "a line without an end");
    memcpy(out, m->at, (size_t)(end - m->at));
    out[end - m->at] = 0;
    m->at = end + 1;
    return 0;
}

/* ---- values and the stack ---- */

static int push_old(struct machine *m, uint32_t v)
{
    if (m->depth == PICKLE_VALUES_MAX)
        return refuse(m, "too many values");
    if (m->depth == m->stack_room) {
        m->stack_room = m->stack_room == 0 ? 256 : 2 * m->stack_room;
        m->stack = mem_grow(m->stack, m->stack_room, sizeof *m->stack);
    }
    m->stack[m->depth++] = v;
    return 0;
}

static int push(struct machine *m, struct value v)
{
    if (m->values == PICKLE_VALUES_MAX) {
        mem_free(v.owned);
        return refuse(m, "too many values");
    }
    if (m->values == m->values_room) {
        m->values_room = m->values_room == 0 ? 256 : 2 * m->values_room;
        m->value = mem_grow(m->value, m->values_room, sizeof *m->value);
    }
    m->value[m->values] = v;
    return push_old(m, m->values++);
}

/* Not below the newest mark. */
static int pop(struct machine *m, uint32_t *out)
{
    if (m->depth == (m->marks > 0 ? m->mark[m->marks - 1] : 0))
        return refuse(m, "the stack is empty");
    *out = m->stack[--m->depth];
    return 0;
}

static int pop_mark(struct machine *m, size_t *from)
{
    if (m->marks == 0)
        return refuse(m, "there is no mark");
    *from = m->mark[--m->marks];
    return 0;
}

static int add_child(struct machine *m, uint32_t to, uint32_t child)
{
    struct value *v = &m->value[to];
    if (v->count == v->room) {
        if (v->room >= PICKLE_VALUES_MAX)
            return refuse(m, "too many values in one place");
        v->room = v->room == 0 ? 4 : 2 * v->room;
        v->child = mem_grow(v->child, v->room, sizeof *v->child);
    }
    v->child[v->count++] = child;
    return 0;
}

/* The value on top, which must be of this kind and stays. */
static int top_of_kind(struct machine *m, size_t depth, enum kind kind, uint32_t *out)
{
    char what[80];
    if (depth == 0 || (m->marks > 0 && depth <= m->mark[m->marks - 1]))
        return refuse(m, "the stack is empty");
    *out = m->stack[depth - 1];
    if (m->value[*out].kind == kind)
        return 0;
    snprintf(what, sizeof what, "%s where %s should be", kind_names[m->value[*out].kind],
             kind_names[kind]);
    return refuse(m, what);
}

/* Everything above the mark becomes the children of a new value of that kind. */
static int collect(struct machine *m, enum kind kind)
{
    size_t from;
    if (pop_mark(m, &from) < 0)
        return -1;
    const size_t n = m->depth - from;
    struct value v = {.kind = kind, .count = (uint32_t)n, .room = (uint32_t)n};
    if (n > 0) {
        v.child = mem_new(n, sizeof *v.child);
        memcpy(v.child, m->stack + from, n * sizeof *v.child);
    }
    m->depth = from;
    if (m->values < PICKLE_VALUES_MAX)
        return push(m, v);
    mem_free(v.child);
    return refuse(m, "too many values");
}

/* Everything above the mark is added to the container below it. */
static int extend(struct machine *m, enum kind kind)
{
    size_t from;
    uint32_t to;
    if (pop_mark(m, &from) < 0 || top_of_kind(m, from, kind, &to) < 0)
        return -1;
    if (kind == DICT && (m->depth - from) % 2 != 0)
        return refuse(m, "a key without a value");
    for (size_t i = from; i < m->depth; i++)
        if (add_child(m, to, m->stack[i]) < 0)
            return -1;
    m->depth = from;
    return 0;
}

static int tuple(struct machine *m, size_t n)
{
    struct value v = {.kind = TUPLE, .count = (uint32_t)n, .room = (uint32_t)n};
    uint32_t child[3];
    for (size_t i = n; i-- > 0;)
        if (pop(m, &child[i]) < 0)
            return -1;
    if (n > 0) {
        v.child = mem_new(n, sizeof *v.child);
        memcpy(v.child, child, n * sizeof *child);
    }
    if (m->values < PICKLE_VALUES_MAX)
        return push(m, v);
    mem_free(v.child);
    return refuse(m, "too many values");
}

static int push_bytes(struct machine *m, enum kind kind, size_t length_bytes)
{
    uint64_t n;
    struct value v = {.kind = kind};
    if (take_uint(m, length_bytes, &n) < 0)
        return -1;
    if (n > (uint64_t)(m->end - m->at))
        return refuse(m, "it is cut short");
    v.n = (size_t)n;
    return take(m, v.n, &v.bytes) < 0 ? -1 : push(m, v);
}

static int push_int(struct machine *m, int64_t i)
{
    return push(m, (struct value){.kind = INT, .i = i});
}

/* ---- the few globals ---- */

static bool text_is(const struct value *v, const char *text)
{
    return v->kind == TEXT && v->n == strlen(text) && memcmp(v->bytes, text, v->n) == 0;
}

static int push_global(struct machine *m, const char *module, const char *name)
{
    char what[2 * LINE_BYTES_MAX + 64];
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (strcmp(module, globals[i].module) == 0 && strcmp(name, globals[i].name) == 0)
            return push(m, (struct value){.kind = GLOBAL, .i = globals[i].is});
    snprintf(what, sizeof what, "global %s.%s is not data", module, name);
    return refuse(m, what);
}

static int stack_global(struct machine *m)
{
    uint32_t name, module;
    char text[2][LINE_BYTES_MAX];
    if (pop(m, &name) < 0 || pop(m, &module) < 0)
        return -1;
    const struct value *const part[2] = {&m->value[module], &m->value[name]};
    for (int i = 0; i < 2; i++) {
        if (part[i]->kind != TEXT || part[i]->n >= LINE_BYTES_MAX)
            return refuse(m, "the name of a global is no text");
        memcpy(text[i], part[i]->bytes, part[i]->n);
        text[i][part[i]->n] = 0;
    }
    return push_global(m, text[0], text[1]);
}

/* "f8", "<f4", "|b1": an element's type, by its letter and size. */
static struct value dtype_of(const struct value *name)
{
    struct value v = {.kind = DTYPE, .type = '?'};
    size_t at = 0;
    if (name->kind != TEXT || name->n < 2 || name->n > 4)
        return v;
    if (strchr("<>|=", name->bytes[0]) != NULL)
        v.big = name->bytes[at++] == '>';
    if (name->n - at == 2 && strchr("fiub", name->bytes[at]) != NULL &&
        strchr("1248", name->bytes[at + 1]) != NULL) {
        v.type = (char)name->bytes[at];
        v.i = name->bytes[at + 1] - '0';
    }
    return v;
}

/* One element as a value; kind NONE where the type is not a number's. */
static struct value element(const struct value *dtype, const uint8_t *p)
{
    uint64_t bits = 0;
    for (int64_t k = 0; k < dtype->i; k++)
        bits |= (uint64_t)p[dtype->big ? dtype->i - 1 - k : k] << (8 * k);
    struct value v = {.kind = INT, .i = (int64_t)bits};
    const unsigned shift = 64 - 8 * (unsigned)dtype->i;
    switch (dtype->type) {
    case 'b':
        v.kind = BOOL;
        break;
    case 'i':
        v.i = (int64_t)(bits << shift) >> shift;
        break;
    case 'u':
        if (bits > INT64_MAX)
            v = (struct value){.kind = FLOAT, .d = (double)bits};
        break;
    case 'f': {
        float single;
        const uint32_t low = (uint32_t)bits;
        v.kind = FLOAT;
        memcpy(&single, &low, sizeof single);
        memcpy(&v.d, &bits, sizeof v.d);
        if (dtype->i == 4)
            v.d = (double)single;
        else if (dtype->i == 2) {
            const unsigned exponent = low >> 10 & 31, fraction = low & 1023;
            v.d = exponent == 31 ? (double)(fraction == 0 ? INFINITY : NAN)
                                 : ldexp(exponent == 0 ? fraction : fraction + 1024.0,
                                         exponent == 0 ? -24 : (int)exponent - 25);
            v.d = low >> 15 != 0 ? -v.d : v.d;
        } else if (dtype->i == 1)
            v.kind = NONE;
        break;
    }
    default:
        v.kind = NONE;
    }
    return v;
}

static int numpy_scalar(struct machine *m, const struct value *args)
{
    if (args->count != 2 || m->value[args->child[0]].kind != DTYPE ||
        m->value[args->child[1]].kind != BYTES)
        return refuse(m, "a numpy scalar of another form");
    const struct value *dtype = &m->value[args->child[0]], *data = &m->value[args->child[1]];
    if (dtype->type == '?' || data->n != (size_t)dtype->i)
        return refuse(m, "a numpy scalar that is no number");
    return push(m, element(dtype, data->bytes));
}

/* shape, dtype and data of an array; NOTHING where they come later (BUILD). */
static int push_array(struct machine *m, uint32_t shape, uint32_t dtype, uint32_t data)
{
    if (push(m, (struct value){.kind = ARRAY}) < 0)
        return -1;
    const uint32_t v = m->stack[m->depth - 1];
    return add_child(m, v, shape) < 0 || add_child(m, v, dtype) < 0 || add_child(m, v, data) < 0
               ? -1
               : 0;
}

/* Text in Latin-1, as protocol 2 wraps bytes: _codecs.encode(text, "latin1"). */
static int encode(struct machine *m, const struct value *args)
{
    if (args->count < 1 || m->value[args->child[0]].kind != TEXT ||
        (args->count == 2 && !text_is(&m->value[args->child[1]], "latin1") &&
         !text_is(&m->value[args->child[1]], "latin-1")))
        return refuse(m, "bytes in another form");
    const struct value *text = &m->value[args->child[0]];
    if (charge(m, text->n) < 0)
        return -1;
    struct value v = {.kind = BYTES, .owned = mem_new(text->n + 1, 1)};
    for (size_t i = 0; i < text->n; i++) {
        uint8_t byte = text->bytes[i];
        if (byte >= 0x80) {
            if ((byte != 0xc2 && byte != 0xc3) || i + 1 == text->n) {
                mem_free(v.owned);
                return refuse(m, "bytes that are not Latin-1");
            }
            byte = (uint8_t)(byte << 6 | (text->bytes[++i] & 63));
        }
        v.owned[v.n++] = byte;
    }
    v.bytes = v.owned;
    return push(m, v);
}

static int reduce(struct machine *m)
{
    uint32_t args, callable;
    if (top_of_kind(m, m->depth, TUPLE, &args) < 0 || pop(m, &args) < 0 ||
        top_of_kind(m, m->depth, GLOBAL, &callable) < 0 || pop(m, &callable) < 0)
        return -1;
    const struct value a = m->value[args];
    switch ((enum global)m->value[callable].i) {
    case G_SCALAR:
        return numpy_scalar(m, &a);
    case G_RECONSTRUCT:
        return push_array(m, NOTHING, NOTHING, NOTHING);
    case G_DTYPE:
        return a.count < 1 ? refuse(m, "a dtype without a name")
                           : push(m, dtype_of(&m->value[a.child[0]]));
    case G_FROMBUFFER:
        if (a.count != 4 || !text_is(&m->value[a.child[3]], "C"))
            return refuse(m, "an array of another form");
        return push_array(m, a.child[2], a.child[1], a.child[0]);
    case G_BYTEARRAY:
        if (a.count == 1 && m->value[a.child[0]].kind == BYTES)
            return push_old(m, a.child[0]);
        return encode(m, &a);
    case G_ENCODE:
        return encode(m, &a);
    case G_ORDERED_DICT:
        return a.count == 0 ? push(m, (struct value){.kind = DICT})
                            : refuse(m, "an OrderedDict of another form");
    case G_NDARRAY:
        break;
    }
    return refuse(m, "a global that is not called in data");
}

/* The state of a dtype or of an array, which stays on the stack. */
static int build(struct machine *m)
{
    uint32_t state, target;
    if (top_of_kind(m, m->depth, TUPLE, &state) < 0 || pop(m, &state) < 0)
        return -1;
    if (m->depth == 0)
        return refuse(m, "the stack is empty");
    target = m->stack[m->depth - 1];
    const struct value *s = &m->value[state];
    struct value *t = &m->value[target];
    if (t->kind == DTYPE) {
        if (s->count < 4 || m->value[s->child[1]].kind != TEXT ||
            m->value[s->child[3]].kind != NONE)
            return refuse(m, "a dtype with fields");
        t->big = text_is(&m->value[s->child[1]], ">");
        return 0;
    }
    if (t->kind != ARRAY || s->count != 5)
        return refuse(m, "a state of something that is not data");
    const struct value *shape = &m->value[s->child[1]];
    if (m->value[s->child[3]].i != 0 && shape->count > 1)
        return refuse(m, "an array in Fortran's order");
    t->child[0] = s->child[1];
    t->child[1] = s->child[2];
    t->child[2] = s->child[4];
    return 0;
}

/* ---- memo ---- */

static int memo_put(struct machine *m, uint64_t at)
{
    if (m->depth == 0 || at >= MEMO_MAX)
        return refuse(m, m->depth == 0 ? "the stack is empty" : "the memo is too large");
    m->memo[at] = m->stack[m->depth - 1];
    return 0;
}

static int memo_get(struct machine *m, uint64_t at)
{
    return at >= MEMO_MAX || m->memo[at] == NOTHING ? refuse(m, "the memo has no such entry")
                                                    : push_old(m, m->memo[at]);
}

/* ---- opcodes ---- */

static int whole_number(struct machine *m, const char *line, int64_t *out)
{
    char *end;
    *out = strtoll(line, &end, 10);
    return end == line || (*end != 0 && strcmp(end, "L") != 0)
               ? refuse(m, "a line that is no number")
               : 0;
}

static size_t put_utf8(uint8_t *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (uint8_t)c;
        return 1;
    }
    const size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        to[i] = (uint8_t)(0x80 | (c & 63));
    to[0] = (uint8_t)(0xf00 >> n | c);
    return n;
}

/* Protocol 0 text: Latin-1 with \uXXXX and \UXXXXXXXX (raw-unicode-escape). */
static int push_escaped(struct machine *m, const char *line)
{
    struct value v = {.kind = TEXT, .owned = mem_new(4 * strlen(line) + 1, 1)};
    for (const char *c = line; *c != 0;) {
        uint32_t code = (uint8_t)*c;
        const size_t digits = c[0] != '\\' ? 0 : c[1] == 'u' ? 4 : c[1] == 'U' ? 8 : 0;
        c++;
        if (digits > 0) {
            char hex[9] = "", *end = hex;
            snprintf(hex, digits + 1, "%s", c + 1);
            code = (uint32_t)strtoul(hex, &end, 16);
            if (end != hex + digits || code > 0x10ffff) {
                mem_free(v.owned);
                return refuse(m, "an escape that is none");
            }
            c += 1 + digits;
        }
        v.n += put_utf8(v.owned + v.n, code);
    }
    v.bytes = v.owned;
    return push(m, v);
}

static int text_opcode(struct machine *m, uint8_t op)
{
    char line[LINE_BYTES_MAX], name[LINE_BYTES_MAX];
    int64_t i;
    if (take_line(m, line) < 0)
        return -1;
    switch (op) {
    case 'I':
        if (strcmp(line, "00") == 0 || strcmp(line, "01") == 0)
            return push(m, (struct value){.kind = BOOL, .i = line[1] == '1'});
        return whole_number(m, line, &i) < 0 ? -1 : push_int(m, i);
    case 'L':
        return whole_number(m, line, &i) < 0 ? -1 : push_int(m, i);
    case 'F': {
        char *end;
        const double d = strtod(line, &end);
        return end == line || *end != 0 ? refuse(m, "a line that is no number")
                                        : push(m, (struct value){.kind = FLOAT, .d = d});
    }
    case 'V':
        return push_escaped(m, line);
    case 'c':
        return take_line(m, name) < 0 ? -1 : push_global(m, line, name);
    case 'g':
        return whole_number(m, line, &i) < 0 ? -1 : memo_get(m, (uint64_t)i);
    default:
        return whole_number(m, line, &i) < 0 ? -1 : memo_put(m, (uint64_t)i); /* p */
    }
}

static int number_opcode(struct machine *m, uint8_t op)
{
    uint64_t n;
    const uint8_t *p;
    switch (op) {
    case 'K':
        return take_uint(m, 1, &n) < 0 ? -1 : push_int(m, (int64_t)n);
    case 'M':
        return take_uint(m, 2, &n) < 0 ? -1 : push_int(m, (int64_t)n);
    case 'J':
        return take_uint(m, 4, &n) < 0 ? -1 : push_int(m, (int32_t)(uint32_t)n);
    case 'G': {
        double d;
        uint64_t bits = 0;
        if (take(m, 8, &p) < 0)
            return -1;
        for (int i = 0; i < 8; i++)
            bits = bits << 8 | p[i];
        memcpy(&d, &bits, sizeof d);
        return push(m, (struct value){.kind = FLOAT, .d = d});
    }
    default: { /* LONG1 */
        uint64_t bytes, bits = 0;
        if (take_uint(m, 1, &bytes) < 0 || take(m, (size_t)bytes, &p) < 0)
            return -1;
        if (bytes > 8)
            return refuse(m, "an int of more than 64 bits");
        for (size_t i = 0; i < bytes; i++)
            bits |= (uint64_t)p[i] << (8 * i);
        if (bytes > 0 && bytes < 8 && p[bytes - 1] >= 0x80)
            bits |= UINT64_MAX << (8 * bytes);
        return push_int(m, (int64_t)bits);
    }
    }
}

static int set_items(struct machine *m, enum kind kind, int n)
{
    uint32_t v[2], to;
    for (int i = n; i-- > 0;)
        if (pop(m, &v[i]) < 0)
            return -1;
    if (top_of_kind(m, m->depth, kind, &to) < 0)
        return -1;
    for (int i = 0; i < n; i++)
        if (add_child(m, to, v[i]) < 0)
            return -1;
    return 0;
}

/* One opcode; *done after STOP. */
static int step(struct machine *m, bool *done)
{
    const uint8_t *p;
    uint64_t n;
    uint32_t v;
    size_t from;
    char what[48];
    if (take(m, 1, &p) < 0)
        return -1;
    switch (*p) {
    case 0x80:
        return take_uint(m, 1, &n) < 0 ? -1 : n > 5 ? refuse(m, "a protocol newer than 5") : 0;
    case 0x95:
        return take_uint(m, 8, &n); /* a frame: only a hint */
    case '.':
        *done = true;
        return 0;
    case '(':
        if (m->marks == MARKS_MAX)
            return refuse(m, "too many marks");
        m->mark[m->marks++] = m->depth;
        return 0;
    case '0':
        return pop(m, &v);
    case '1':
        if (pop_mark(m, &from) < 0)
            return -1;
        m->depth = from;
        return 0;
    case '2':
        return m->depth == 0 ? refuse(m, "the stack is empty")
                             : push_old(m, m->stack[m->depth - 1]);
    case 'N':
        return push(m, (struct value){.kind = NONE});
    case 0x88:
        return push(m, (struct value){.kind = BOOL, .i = 1});
    case 0x89:
        return push(m, (struct value){.kind = BOOL});
    case 'I':
    case 'L':
    case 'F':
    case 'V':
    case 'c':
    case 'g':
    case 'p':
        return text_opcode(m, *p);
    case 'K':
    case 'M':
    case 'J':
    case 'G':
    case 0x8a:
        return number_opcode(m, *p);
    case 'X':
        return push_bytes(m, TEXT, 4);
    case 0x8c:
        return push_bytes(m, TEXT, 1);
    case 0x8d:
        return push_bytes(m, TEXT, 8);
    case 'T':
        return push_bytes(m, BYTES, 4);
    case 'U':
        return push_bytes(m, BYTES, 1);
    case 'B':
        return push_bytes(m, BYTES, 4);
    case 'C':
        return push_bytes(m, BYTES, 1);
    case 0x8e:
    case 0x96:
        return push_bytes(m, BYTES, 8);
    case ']':
        return push(m, (struct value){.kind = LIST});
    case '}':
        return push(m, (struct value){.kind = DICT});
    case ')':
        return push(m, (struct value){.kind = TUPLE});
    case 'a':
        return set_items(m, LIST, 1);
    case 's':
        return set_items(m, DICT, 2);
    case 'e':
        return extend(m, LIST);
    case 'u':
        return extend(m, DICT);
    case 'l':
        return collect(m, LIST);
    case 't':
        return collect(m, TUPLE);
    case 'd':
        return collect(m, DICT);
    case 0x85:
    case 0x86:
    case 0x87:
        return tuple(m, (size_t)*p - 0x84);
    case 'h':
        return take_uint(m, 1, &n) < 0 ? -1 : memo_get(m, n);
    case 'j':
        return take_uint(m, 4, &n) < 0 ? -1 : memo_get(m, n);
    case 'q':
        return take_uint(m, 1, &n) < 0 ? -1 : memo_put(m, n);
    case 'r':
        return take_uint(m, 4, &n) < 0 ? -1 : memo_put(m, n);
    case 0x94:
        return memo_put(m, m->memo_next++);
    case 0x93:
        return stack_global(m);
    case 'R':
        return reduce(m);
    case 'b':
        return build(m);
    default:
        break;
    }
    snprintf(what, sizeof what, "opcode 0x%02x is not data", *p);
    return refuse(m, what);
}

/* ---- to JSON ---- */

struct giving {
    struct machine *m;
    uint32_t made; /* values of the result: sharing must not blow it up */
};

static int give(struct giving *g, struct json *list, uint32_t at, int depth);

static int give_number(struct giving *g, struct json *list, const struct value *v)
{
    if (v->kind == FLOAT)
        json_append_number(list, v->d); /* not finite: null */
    else if (v->kind == INT)
        json_append_int(list, v->i);
    else if (v->kind == BOOL) {
        struct json *box = json_new_object();
        json_set_bool(box, "v", v->i != 0);
        struct json *copy = json_clone(json_get(box, "v"));
        json_append(list, &copy);
        json_free(box);
    } else
        return refuse(g->m, "an array that holds no numbers");
    return 0;
}

/* Dimension d of an array from element *next on. */
static int give_dimension(struct giving *g, struct json *list, const struct value *shape,
                          uint32_t d, const struct value *dtype, const struct value *data,
                          size_t *next)
{
    if (++g->made > PICKLE_VALUES_MAX)
        return refuse(g->m, "too many values");
    if (d == shape->count) {
        const struct value v = element(dtype, data->bytes + *next * (size_t)dtype->i);
        ++*next;
        return give_number(g, list, &v);
    }
    struct json *inner = json_new_list();
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < g->m->value[shape->child[d]].i; i++)
        rc = give_dimension(g, inner, shape, d + 1, dtype, data, next);
    json_append(list, &inner);
    return rc;
}

static int give_array(struct giving *g, struct json *list, const struct value *v, int depth)
{
    size_t elements = 1, next = 0;
    if (v->child[0] == NOTHING)
        return refuse(g->m, "an array without a state");
    const struct value *shape = &g->m->value[v->child[0]], *dtype = &g->m->value[v->child[1]],
                       *data = &g->m->value[v->child[2]];
    if (data->kind == LIST && shape->kind == TUPLE && shape->count == 1) /* an array of objects */
        return give(g, list, v->child[2], depth + 1);
    if (shape->kind != TUPLE || dtype->kind != DTYPE || dtype->type == '?' || data->kind != BYTES ||
        shape->count > 8)
        return refuse(g->m, "an array that holds no numbers");
    for (uint32_t d = 0; d < shape->count; d++) {
        const struct value *side = &g->m->value[shape->child[d]];
        if (side->kind != INT || side->i < 0 || side->i > PICKLE_VALUES_MAX ||
            mem_mul(elements, (size_t)side->i, &elements) != 0 || elements > PICKLE_VALUES_MAX)
            return refuse(g->m, "an array that is too large");
    }
    if (elements * (size_t)dtype->i != data->n)
        return refuse(g->m, "an array whose shape is not its size");
    return give_dimension(g, list, shape, 0, dtype, data, &next);
}

/* Text without NUL bytes, as a C string of the caller's. */
static int text_copy(struct giving *g, const struct value *v, char **out)
{
    if (v->n > 0 && memchr(v->bytes, 0, v->n) != NULL)
        return refuse(g->m, "bytes that are no text");
    if (charge(g->m, v->n) < 0)
        return -1;
    *out = mem_new(v->n + 1, 1);
    if (v->n > 0)
        memcpy(*out, v->bytes, v->n);
    return 0;
}

static int give_dict(struct giving *g, struct json *list, const struct value *v, int depth)
{
    struct json *object = json_new_object();
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i + 1 < v->count; i += 2) {
        const struct value *key = &g->m->value[v->child[i]];
        struct json *box = json_new_list();
        char number[24], *text = NULL;
        snprintf(number, sizeof number, "%" PRId64, key->i);
        if (key->kind == TEXT || key->kind == BYTES)
            rc = utf8_valid((const char *)key->bytes, key->n)
                     ? text_copy(g, key, &text)
                     : refuse(g->m, "a key that is no text");
        else if (key->kind != INT && key->kind != BOOL)
            rc = refuse(g->m, "a key that is no text");
        if (rc == 0 && (rc = give(g, box, v->child[i + 1], depth + 1)) == 0) {
            struct json *value = json_clone(json_at(box, 0));
            json_set(object, text != NULL ? text : number, &value);
        }
        mem_free(text);
        json_free(box);
    }
    json_append(list, &object);
    return rc;
}

/* Appends the value to `list`. */
static int give(struct giving *g, struct json *list, uint32_t at, int depth)
{
    const struct value *v = &g->m->value[at];
    char *text;
    if (++g->made > PICKLE_VALUES_MAX || depth > PICKLE_DEPTH_MAX)
        return refuse(g->m, depth > PICKLE_DEPTH_MAX ? "nested too deeply" : "too many values");
    switch (v->kind) {
    case NONE:
        json_append_number(list, (double)NAN);
        return 0;
    case BOOL:
    case INT:
    case FLOAT:
        return give_number(g, list, v);
    case TEXT:
    case BYTES:
        if (text_copy(g, v, &text) < 0)
            return -1;
        json_append_string(list, text);
        mem_free(text);
        return 0;
    case LIST:
    case TUPLE: {
        struct json *inner = json_new_list();
        int rc = 0;
        for (uint32_t i = 0; rc == 0 && i < v->count; i++)
            rc = give(g, inner, v->child[i], depth + 1);
        json_append(list, &inner);
        return rc;
    }
    case DICT:
        return give_dict(g, list, v, depth);
    case ARRAY:
        return give_array(g, list, v, depth);
    case GLOBAL:
    case DTYPE:
        break;
    }
    return refuse(g->m, "a value that is not data");
}

int pickle_read(struct json **out, const void *data, size_t bytes, struct err *e)
{
    struct machine m = {.at = data, .begin = data, .end = (const uint8_t *)data + bytes, .e = e};
    struct json *box = json_new_list();
    uint32_t top;
    bool done = false;
    int rc = 0;
    *out = NULL;
    m.text_left = PICKLE_TEXT_BYTES_LEAST + PICKLE_TEXT_FACTOR * bytes;
    m.memo = mem_new(MEMO_MAX, sizeof *m.memo);
    memset(m.memo, 0xff, MEMO_MAX * sizeof *m.memo);
    while (rc == 0 && !done)
        rc = step(&m, &done);
    if (rc == 0 && m.at != m.end)
        rc = refuse(&m, "something stands behind its end");
    if (rc == 0 && (m.marks != 0 || m.depth != 1 || pop(&m, &top) < 0))
        rc = refuse(&m, "it does not end with one value");
    if (rc == 0)
        rc = give(&(struct giving){.m = &m}, box, top, 0);
    if (rc == 0)
        *out = json_clone(json_at(box, 0));
    json_free(box);
    for (uint32_t i = 0; i < m.values; i++) {
        mem_free(m.value[i].child);
        mem_free(m.value[i].owned);
    }
    mem_free(m.value);
    mem_free(m.stack);
    mem_free(m.memo);
    return rc;
}

/* ---- writing ---- */

static void add_uint(struct buf *b, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_add_byte(b, (char)(v >> (8 * i)));
}

static void add_sized(struct buf *b, char opcode, const void *data, size_t n)
{
    buf_add_byte(b, opcode);
    add_uint(b, n, 4);
    buf_add(b, data, n);
}

void pickle_begin(struct buf *b)
{
    buf_add(b, "\x80\x03", 2);
}

void pickle_end(struct buf *b)
{
    buf_add_byte(b, '.');
}

void pickle_text(struct buf *b, const char *text)
{
    add_sized(b, 'X', text, strlen(text));
}

void pickle_bytes(struct buf *b, const void *data, size_t n)
{
    add_sized(b, 'B', data, n);
}

void pickle_bool(struct buf *b, bool v)
{
    buf_add_byte(b, v ? '\x88' : '\x89');
}

void pickle_list_begin(struct buf *b)
{
    buf_add(b, "](", 2);
}

void pickle_list_end(struct buf *b)
{
    buf_add_byte(b, 'e');
}

void pickle_dict_begin(struct buf *b)
{
    buf_add(b, "}(", 2);
}

void pickle_dict_end(struct buf *b)
{
    buf_add_byte(b, 'u');
}

static void add_number(struct buf *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    buf_add_byte(b, 'G');
    for (int i = 7; i >= 0; i--)
        buf_add_byte(b, (char)(bits >> (8 * i)));
}

void pickle_json(struct buf *b, const struct json *v)
{
    struct err none;
    const char *text, *key;
    const struct json *member;
    int64_t i;
    double d;
    bool flag;
    if (json_is_list(v)) {
        pickle_list_begin(b);
        for (size_t k = 0; k < json_count(v); k++)
            pickle_json(b, json_at(v, k));
        pickle_list_end(b);
    } else if (json_is_object(v)) {
        pickle_dict_begin(b);
        for (void *c = NULL; json_next(v, &c, &key, &member);) {
            pickle_text(b, key);
            pickle_json(b, member);
        }
        pickle_dict_end(b);
    } else if (json_as_string(v, "", SIZE_MAX, &text, &none) == 0) {
        pickle_text(b, text);
    } else if (json_as_bool(v, "", &flag, &none) == 0) {
        pickle_bool(b, flag);
    } else if (json_as_int(v, "", INT64_MIN, INT64_MAX, &i, &none) == 0) {
        buf_add(b, "\x8a\x08", 2);
        add_uint(b, (uint64_t)i, 8);
    } else if (json_as_number(v, "", -HUGE_VAL, HUGE_VAL, &d, &none) == 0) {
        add_number(b, d);
    } else {
        buf_add_byte(b, 'N');
    }
}
