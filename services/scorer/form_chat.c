/* A vision-language model as the judge, by the chat completions that vLLM, SGLang and most hosts
 * speak: one picture and one question a call.
 *
 *   reward.judge: number   the answer's text, of which reward.pattern (a POSIX extended
 *                          expression) finds the number: its first group, or all of it; the last
 *                          match counts, since judges reason before they decide, and has to be a
 *                          whole number, not the 3 of -3
 *   reward.judge: yes_no   P(yes) / (P(yes) + P(no)) from the first token's alternatives
 *                          (logprobs)
 *
 * Where neither is found, or the text was cut off, the answer is refused: a judge that rambles has given no score. */
#include "base/mem.h"
#include "scorer/form.h"

#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REQUEST_BYTES_MAX ((size_t)64 << 20)
#define ANSWER_TEXT_BYTES_MAX 65536
#define NUMBER_BYTES_MAX 64
#define TOKEN_BYTES_MAX 256
#define ALTERNATIVES 20
#define TOKENS_MAX_NUMBER 512
#define SEEN_BYTES_MAX 60
#define MINUS "\xe2\x88\x92" /* the sign itself, U+2212 */

enum { JUDGE_NUMBER, JUDGE_YES_NO }; /* reward.judge */

struct chat_form {
    const struct reward_params *p; /* borrowed */
    regex_t pattern;
    bool compiled;
};

/* ---- the request ---- */

/* The question with the prompt in the place of {prompt}. */
static void add_question(struct buf *out, const char *question, const char *prompt)
{
    for (const char *at; (at = strstr(question, "{prompt}")) != NULL;
         question = at + strlen("{prompt}")) {
        buf_add(out, question, (size_t)(at - question));
        buf_add_text(out, prompt);
    }
    buf_add_text(out, question);
}

static struct json *text_part(const char *question)
{
    struct json *part = json_new_object();
    json_set_string(part, "type", "text");
    json_set_string(part, "text", question);
    return part;
}

static struct json *picture_part(const char *uri)
{
    struct json *part = json_new_object(), *url = json_new_object();
    json_set_string(url, "url", uri);
    json_set_string(part, "type", "image_url");
    json_set(part, "image_url", &url);
    return part;
}

static struct json *message_of(const char *uri, const char *question)
{
    struct json *message = json_new_object(), *content = json_new_list();
    struct json *picture = picture_part(uri), *text = text_part(question);
    json_append(content, &picture);
    json_append(content, &text);
    json_set_string(message, "role", "user");
    json_set(message, "content", &content);
    return message;
}

static int write_request(void *self, struct form_request *r, const char *id,
                         const struct backend_item *items, size_t n, struct err *e)
{
    const struct chat_form *f = self;
    struct buf uri, question;
    (void)id, (void)n;
    buf_init(&uri, REQUEST_BYTES_MAX);
    buf_init(&question, REQUEST_BYTES_MAX);
    buf_format(&uri, "data:%s;base64,", form_picture_type(f->p));
    int rc = form_add_picture(&uri, f->p, &items[0], e);
    add_question(&question, f->p->question, items[0].prompt);
    if (rc == 0 && buf_check(&uri, "picture", e) == 0 && buf_check(&question, "question", e) == 0) {
        struct json *doc = json_new_object(), *messages = json_new_list();
        struct json *message = message_of(buf_text(&uri), buf_text(&question));
        json_append(messages, &message);
        json_set_string(doc, "model", f->p->model);
        json_set(doc, "messages", &messages);
        json_set_int(doc, "temperature", 0);
        json_set_int(doc, "max_tokens", f->p->judge == JUDGE_YES_NO ? 1 : TOKENS_MAX_NUMBER);
        if (f->p->judge == JUDGE_YES_NO) {
            json_set_bool(doc, "logprobs", true);
            json_set_int(doc, "top_logprobs", ALTERNATIVES);
        }
        size_t bytes;
        char *text = json_print(doc, JSON_LINE, &bytes);
        buf_add(r->body, text, bytes);
        mem_free(text);
        json_free(doc);
        snprintf(r->content_type, sizeof r->content_type, "application/json");
        rc = buf_check(r->body, "request", e);
    } else {
        rc = -1;
    }
    buf_done(&question);
    buf_done(&uri);
    return rc;
}

/* ---- the answer ---- */

/* choices[0] of the answer. */
static int first_choice(const struct json **out, const struct json *doc, struct err *e)
{
    const struct json *choices;
    if (!json_is_object(doc))
        return err_set(e, ERR_INVALID, "the answer is a %s, expected an object",
                       json_type_name(doc));
    if (json_get_list(doc, "choices", 64, &choices, e) < 0)
        return -1;
    if (json_count(choices) == 0 || !json_is_object(json_at(choices, 0)))
        return err_set(e, ERR_INVALID, "the answer has no choice");
    *out = json_at(choices, 0);
    return 0;
}

/* Whether a number that is matched at `at` is the rest of another one: of -3, of .5, of 7,5 as some languages write it.
 * 7-8 and GPT-4 have no sign, and a full stop that ends a word or follows another is none of a number. */
static bool is_rest(const char *text, const char *at)
{
    const size_t n = (size_t)(at - text);
    const char c = n > 0 ? at[-1] : ' ', before = n > 1 ? at[-2] : ' ';
    if (c == '.' || c == ',')
        return !isalpha((unsigned char)before) && before != c;
    return isdigit((unsigned char)c) || (c == '-' && !isalnum((unsigned char)before)) ||
           (n >= strlen(MINUS) && memcmp(at - strlen(MINUS), MINUS, strlen(MINUS)) == 0);
}

/* The number that the last match of the pattern names. */
static int number_in(double *out, const struct chat_form *f, const char *text, struct err *e)
{
    regmatch_t match[2];
    char number[NUMBER_BYTES_MAX] = "";
    bool rest = false;
    for (const char *at = text;
         regexec(&f->pattern, at, 2, match, at == text ? 0 : REG_NOTBOL) == 0;) {
        const regmatch_t *m = match[1].rm_so >= 0 ? &match[1] : &match[0];
        const size_t n = (size_t)(m->rm_eo - m->rm_so);
        if (n < sizeof number) {
            memcpy(number, at + m->rm_so, n);
            number[n] = 0;
            rest = is_rest(text, at + m->rm_so);
        }
        if (at[match[0].rm_eo] == 0)
            break;
        at += match[0].rm_eo > 0 ? match[0].rm_eo : 1;
    }
    if (rest)
        return err_set(e, ERR_INVALID, "reward.pattern finds %s, a part of a number, in '%.*s%s'", number, SEEN_BYTES_MAX, text,
                       strlen(text) > SEEN_BYTES_MAX ? "..." : "");
    char *end = number;
    *out = strtod(number, &end);
    if (end == number || *end != 0 || !isfinite(*out))
        return err_set(e, ERR_INVALID, "reward.pattern finds no number in '%.*s%s'", SEEN_BYTES_MAX,
                       text, strlen(text) > SEEN_BYTES_MAX ? "..." : "");
    return 0;
}

static int read_number(double *out, const struct chat_form *f, const struct json *choice,
                       struct err *e)
{
    const struct json *message;
    const char *text, *ended;
    if (json_get_string_or(choice, "finish_reason", ANSWER_TEXT_BYTES_MAX, "", &ended, e) < 0)
        return -1;
    if (strcmp(ended, "length") == 0 || strcmp(ended, "content_filter") == 0)
        return err_set(e, ERR_INVALID, "the judge was cut off (finish_reason %s): its last number need not be its verdict",
                       ended);
    if (json_get_object(choice, "message", &message, e) < 0 ||
        json_get_string(message, "content", ANSWER_TEXT_BYTES_MAX, &text, e) < 0)
        return -1;
    return number_in(out, f, text, e);
}

/* A token without the white space and marks around it is this word. */
static bool says(const char *token, const char *word)
{
    while (*token != 0 && !isalpha((unsigned char)*token))
        token++;
    const size_t n = strlen(word);
    return strncasecmp(token, word, n) == 0 && !isalpha((unsigned char)token[n]);
}

static int read_yes_no(double *out, const struct json *choice, struct err *e)
{
    const struct json *logprobs, *content, *top;
    double yes = 0.0, no = 0.0;
    if (json_get_object(choice, "logprobs", &logprobs, e) < 0 ||
        json_get_list(logprobs, "content", 1 << 16, &content, e) < 0)
        return err_wrap(e, "reward.judge yes_no needs a service that gives logprobs");
    if (json_count(content) == 0 || !json_is_object(json_at(content, 0)))
        return err_set(e, ERR_INVALID, "logprobs.content is empty");
    if (json_get_list(json_at(content, 0), "top_logprobs", 1 << 10, &top, e) < 0)
        return -1;
    for (size_t i = 0; i < json_count(top); i++) {
        const char *token;
        double logprob;
        if (!json_is_object(json_at(top, i)))
            return err_set(e, ERR_INVALID, "top_logprobs[%zu] is a %s", i,
                           json_type_name(json_at(top, i)));
        if (json_get_string(json_at(top, i), "token", TOKEN_BYTES_MAX, &token, e) < 0 ||
            json_get_number(json_at(top, i), "logprob", -HUGE_VAL, 1e-6, &logprob, e) < 0)
            return -1;
        yes += says(token, "yes") ? exp(logprob) : 0.0;
        no += says(token, "no") ? exp(logprob) : 0.0;
    }
    if (!(yes + no > 0.0))
        return err_set(e, ERR_INVALID, "neither yes nor no is among the %zu likeliest first tokens",
                       json_count(top));
    *out = yes / (yes + no);
    return 0;
}

static int read_answer(void *self, struct backend_score *scores, size_t n, const char *id,
                       const struct form_answer *a, struct err *e)
{
    const struct chat_form *f = self;
    const struct json *choice = NULL;
    struct json *doc = NULL;
    double score = 0.0;
    (void)id, (void)n;
    int rc = form_parse(&doc, a, e) < 0 || first_choice(&choice, doc, e) < 0 ? -1 : 0;
    if (rc == 0)
        rc = f->p->judge == JUDGE_YES_NO ? read_yes_no(&score, choice, e)
                                         : read_number(&score, f, choice, e);
    scores[0] = (struct backend_score){0};
    if (rc == 0)
        rc = form_score_value(&scores[0].value, score, "the judge's score", f->p, e);
    json_free(doc);
    return rc;
}

/* ---- settings ---- */

static void close_form(void *self)
{
    struct chat_form *f = self;
    if (f->compiled)
        regfree(&f->pattern);
    mem_free(f);
}

int form_open_chat(struct form *f, const struct reward_params *p, struct err *e)
{
    if (p->model[0] == 0)
        return err_set(e, ERR_INVALID, "reward.model is empty: name the model of the service");
    if (strstr(p->question, "{prompt}") == NULL)
        return err_set(e, ERR_INVALID,
                       "reward.question does not mention {prompt}: the judge would not know what "
                       "was asked for");
    struct chat_form *c = mem_new(1, sizeof *c);
    c->p = p;
    const int failed = regcomp(&c->pattern, p->pattern, REG_EXTENDED | REG_NEWLINE);
    if (failed != 0) {
        char why[80];
        regerror(failed, &c->pattern, why, sizeof why);
        close_form(c);
        return err_set(e, ERR_INVALID, "reward.pattern %s: %s", p->pattern, why);
    }
    c->compiled = true;
    if (form_set_path(f, p, "/v1/chat/completions", e) < 0) {
        close_form(c);
        return -1;
    }
    f->self = c;
    f->items_max = 1;
    f->image_factor = 8;
    f->write = write_request;
    f->read = read_answer;
    f->close = close_form;
    return 0;
}
