#include "rollout/trajectory.h"
#include "run/prompt_set.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

static int parse(struct prompt_set *p, const char *text, struct err *e)
{
    return prompt_set_parse(p, text, strlen(text), e);
}

START_TEST(lines_keep_their_order_tag_and_metadata)
{
    struct prompt_set p;
    struct err e;
    ck_assert_msg(parse(&p, "{\"prompt\":\"a b\",\"tag\":\"t\"}\n\n{\"metadata\":{\"n\":[1,2]},\"prompt\":\"\xc3\xa9\"}", &e) == 0,
                  "%s", e.text);
    ck_assert_uint_eq(p.count, 2);
    ck_assert_str_eq(p.item[0].text, "a b");
    ck_assert_str_eq(p.item[0].tag, "t");
    ck_assert_str_eq(p.item[0].metadata, "");
    ck_assert_str_eq(p.item[1].text, "\xc3\xa9");
    ck_assert_str_eq(p.item[1].metadata, "{\"n\":[1,2]}");
    prompt_set_done(&p);
}
END_TEST

START_TEST(the_longest_prompt_and_metadata_of_a_trajectory_are_taken)
{
    static char text[TRAJECTORY_PROMPT_BYTES_MAX + TRAJECTORY_METADATA_BYTES_MAX + 64];
    for (int more = 0; more < 2; more++) {
        struct prompt_set p;
        struct err e;
        snprintf(text, sizeof text, "{\"prompt\":\"%0*d\"}", TRAJECTORY_PROMPT_BYTES_MAX + more, 1);
        ck_assert_int_eq(parse(&p, text, &e), -more);
        prompt_set_done(&p);
        snprintf(text, sizeof text, "{\"prompt\":\"a\",\"metadata\":{\"m\":\"%0*d\"}}",
                 TRAJECTORY_METADATA_BYTES_MAX - (int)strlen("{\"m\":\"\"}") + more, 1);
        ck_assert_int_eq(parse(&p, text, &e), -more);
        prompt_set_done(&p);
    }
}
END_TEST

START_TEST(what_is_wrong_is_said_with_its_line)
{
    static const struct {
        const char *text, *names;
    } bad[] = {
        {"{\"prompt\":\"a\"}\n{\"prompt\":3}", "line 2"},
        {"{\"prompt\":\"a\"}\n\n{\"tag\":\"t\"}", "line 3"},
        {"{\"prompt\":\"a\",\"prompt\":\"b\"}", "line 1"},
        {"{\"prompt\":\"a\",\"metadata\":7}", "metadata"},
        {"nonsense", "line 1"},
        {"[1]", "not an object"},
        {"\n \n", "no prompt"},
        {"", "no prompt"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct prompt_set p;
        struct err e;
        ck_assert_msg(parse(&p, bad[i].text, &e) < 0, "%s was taken", bad[i].text);
        ck_assert_msg(strstr(e.text, bad[i].names) != NULL, "'%s' does not say '%s'", e.text, bad[i].names);
        ck_assert_uint_eq(p.count, 0);
    }
}
END_TEST

START_TEST(draws_are_a_function_of_seed_slot_and_group_and_reach_every_prompt)
{
    int seen[7] = {0};
    for (uint64_t group = 0; group < 700; group++) {
        const size_t i = prompt_set_draw(7, 1, 2, group);
        ck_assert_uint_lt(i, 7);
        ck_assert_uint_eq(i, prompt_set_draw(7, 1, 2, group));
        seen[i]++;
    }
    for (int i = 0; i < 7; i++)
        ck_assert_int_gt(seen[i], 60);
    int same = 0;
    for (uint64_t group = 0; group < 700; group++)
        same += prompt_set_draw(7, 1, 2, group) == prompt_set_draw(7, 1, 3, group);
    ck_assert_int_lt(same, 160); /* another slot draws others */
}
END_TEST

SUITE("run/prompt_set", 10, lines_keep_their_order_tag_and_metadata,
      the_longest_prompt_and_metadata_of_a_trajectory_are_taken, what_is_wrong_is_said_with_its_line,
      draws_are_a_function_of_seed_slot_and_group_and_reach_every_prompt)
