#include "metrics/metrics.h"
#include "support/suite.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The page up to the process_* families, which differ from run to run. */
static char *page_of(struct metrics *m)
{
    struct buf b;
    buf_init(&b, METRICS_PAGE_BYTES_MAX);
    metrics_print(m, &b);
    ck_assert_int_eq(buf_check(&b, "page", NULL), 0);
    char *text = buf_take(&b, NULL);
    char *process = strstr(text, "# HELP process_");
    ck_assert_ptr_nonnull(process);
    ck_assert_ptr_nonnull(strstr(process, "\nprocess_resident_memory_bytes "));
    *process = 0;
    return text;
}

START_TEST(the_page_is_prometheus_text_to_the_byte)
{
    struct metrics *m = metrics_new("scorer");
    const double bounds[] = {0.1, 1.0};
    struct metric *a = metrics_counter(m, "calls_total", "Calls\nof a \\ backend.", METRICS_LABEL("backend", "a\"b\\c\nd"));
    struct metric *g = metrics_gauge(m, "queue_items", "Waiting.", METRICS_NO_LABELS);
    struct metric *h = metrics_histogram(m, "call_seconds", "Latency.", METRICS_LABEL("backend", "x"), bounds, 2);
    struct metric *b = metrics_counter(m, "calls_total", "Calls", METRICS_LABELS2("backend", "z", "code", "200"));
    metrics_add(a, 1);
    metrics_add(a, 0.5);
    metrics_add(b, 3);
    metrics_set(g, 7);
    metrics_shift(g, -2);
    metrics_observe(h, 0.1); /* on the bound: inside */
    metrics_observe(h, 0.5);
    metrics_observe(h, 9.0);
    metrics_observe(h, (double)NAN);
    char *page = page_of(m);
    ck_assert_str_eq(page, "# HELP dagline_scorer_calls_total Calls\\nof a \\\\ backend.\n"
                           "# TYPE dagline_scorer_calls_total counter\n"
                           "dagline_scorer_calls_total{backend=\"a\\\"b\\\\c\\nd\"} 1.5\n"
                           "dagline_scorer_calls_total{backend=\"z\",code=\"200\"} 3\n"
                           "# HELP dagline_scorer_queue_items Waiting.\n"
                           "# TYPE dagline_scorer_queue_items gauge\n"
                           "dagline_scorer_queue_items 5\n"
                           "# HELP dagline_scorer_call_seconds Latency.\n"
                           "# TYPE dagline_scorer_call_seconds histogram\n"
                           "dagline_scorer_call_seconds_bucket{backend=\"x\",le=\"0.1\"} 1\n"
                           "dagline_scorer_call_seconds_bucket{backend=\"x\",le=\"1\"} 2\n"
                           "dagline_scorer_call_seconds_bucket{backend=\"x\",le=\"+Inf\"} 4\n"
                           "dagline_scorer_call_seconds_sum{backend=\"x\"} 9.6\n"
                           "dagline_scorer_call_seconds_count{backend=\"x\"} 4\n");
    free(page);
    metrics_free(m);
}
END_TEST

START_TEST(special_numbers_are_written_as_the_format_says)
{
    struct metrics *m = metrics_new("x");
    struct metric *g = metrics_gauge(m, "g_ratio", "G.", METRICS_NO_LABELS);
    static const struct {
        double value;
        const char *want;
    } cases[] = {{(double)NAN, " NaN\n"}, {(double)INFINITY, " +Inf\n"}, {-(double)INFINITY, " -Inf\n"}, {0.1, " 0.1\n"}, {1e300, " 1e+300\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        metrics_set(g, cases[i].value);
        char *page = page_of(m);
        ck_assert_msg(strstr(page, cases[i].want) != NULL, "case %zu: %s", i, page);
        free(page);
    }
    metrics_free(m);
}
END_TEST

START_TEST(the_same_name_and_labels_are_one_series)
{
    struct metrics *m = metrics_new("x");
    struct metric *a = metrics_counter(m, "c_total", "C.", METRICS_LABEL("code", "1"));
    ck_assert_ptr_eq(a, metrics_counter(m, "c_total", "C.", METRICS_LABEL("code", "1")));
    ck_assert_ptr_ne(a, metrics_counter(m, "c_total", "C.", METRICS_LABEL("code", "2")));
    metrics_free(m);
    metrics_free(NULL);
}
END_TEST

static void *hammer(void *arg)
{
    struct metric **s = arg;
    for (int i = 0; i < 20000; i++) {
        metrics_add(s[0], 1);
        metrics_shift(s[1], i % 2 == 0 ? 1 : -1);
        metrics_observe(s[2], 0.5);
    }
    return NULL;
}

START_TEST(no_update_of_any_thread_is_lost)
{
    struct metrics *m = metrics_new("x");
    const double bounds[] = {1.0};
    struct metric *s[] = {metrics_counter(m, "c_total", "C.", METRICS_NO_LABELS), metrics_gauge(m, "g_items", "G.", METRICS_NO_LABELS),
                          metrics_histogram(m, "h_seconds", "H.", METRICS_NO_LABELS, bounds, 1)};
    pthread_t id[4];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&id[i], NULL, hammer, s), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(id[i], NULL);
    ck_assert(metrics_value(s[0]) == 80000.0);
    ck_assert(metrics_value(s[1]) == 0.0);
    ck_assert(metrics_value(s[2]) == 80000.0);
    char *page = page_of(m);
    ck_assert_ptr_nonnull(strstr(page, "dagline_x_h_seconds_sum 40000\n"));
    free(page);
    metrics_free(m);
}
END_TEST

SUITE("metrics/metrics", 20, the_page_is_prometheus_text_to_the_byte, special_numbers_are_written_as_the_format_says,
      the_same_name_and_labels_are_one_series, no_update_of_any_thread_is_lost)
