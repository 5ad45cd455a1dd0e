#include "base/file.h"
#include "base/mem.h"
#include "support/suite.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A folder of its own for each test; removed at the end, which also tests the removal. */
static void in_temp_folder(void)
{
    static char folder[] = "/tmp/dagline-file-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static void drop_temp_folder(void)
{
    char here[256];
    struct err e = {0};
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_msg(file_remove_tree(here, &e) == 0, "%s", e.text);
    ck_assert(!file_exists(here));
}

static int count_entry(const char *name, void *arg, struct err *e)
{
    (void)name;
    (void)e;
    ++*(int *)arg;
    return 0;
}

static int entries(const char *folder)
{
    int count = 0;
    ck_assert_int_eq(file_list(folder, 1000, count_entry, &count, NULL), 0);
    return count;
}

START_TEST(what_was_written_is_read_back_terminated)
{
    in_temp_folder();
    struct err e = {0};
    char *text = NULL;
    size_t bytes = 0;
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *want = mem_new(sizes[i] + 1, 1);
        memset(want, 'x', sizes[i]);
        ck_assert_msg(file_replace("f", want, sizes[i], 0644, &e) == 0, "%s", e.text);
        ck_assert_msg(file_read_all("f", 100000, &text, &bytes, &e) == 0, "%s", e.text);
        ck_assert_uint_eq(bytes, sizes[i]);
        ck_assert_str_eq(text, want);
        mem_free(text);
        struct file_map m;
        ck_assert_int_eq(file_map_open(&m, "f", 100000, &e), 0);
        ck_assert_uint_eq(m.bytes, sizes[i]);
        if (sizes[i] > 0)
            ck_assert_mem_eq(m.data, want, sizes[i]);
        file_map_close(&m);
        mem_free(want);
    }
    ck_assert_int_eq(entries("."), 1);
    drop_temp_folder();
}
END_TEST

START_TEST(the_bound_on_a_read_holds_for_files_and_for_pipes)
{
    in_temp_folder();
    struct err e = {0};
    char *text = NULL;
    struct file_map m;
    ck_assert_int_eq(file_replace("f", "12345", 5, 0644, &e), 0);
    ck_assert_int_eq(file_read_all("f", 5, &text, NULL, &e), 0);
    mem_free(text);
    ck_assert_int_eq(file_read_all("f", 4, &text, NULL, &e), -1);
    ck_assert_int_eq(e.code, ERR_FULL);
    ck_assert_str_eq(e.text, "read f: larger than the bound of 4 bytes");
    ck_assert_ptr_null(text);
    ck_assert_int_eq(file_map_open(&m, "f", 4, &e), -1);
    ck_assert_int_eq(file_read_all("/dev/zero", 10000, &text, NULL, &e), -1);
    ck_assert_int_eq(e.code, ERR_FULL);
    ck_assert_int_eq(file_read_all("/proc/self/stat", 10000, &text, NULL, &e), 0); /* says 0 bytes */
    ck_assert(strlen(text) > 10);
    mem_free(text);
    drop_temp_folder();
}
END_TEST

START_TEST(errors_name_the_step_and_the_path)
{
    struct err e = {0};
    char *text;
    struct file_map m;
    ck_assert_int_eq(file_read_all("/nowhere/x", 10, &text, NULL, &e), -1);
    ck_assert_str_eq(e.text, "open /nowhere/x: No such file or directory");
    ck_assert_int_eq(e.code, ERR_NOT_FOUND);
    ck_assert_int_eq(file_replace("/nowhere/x", "", 0, 0644, &e), -1);
    ck_assert_msg(strncmp(e.text, "create /nowhere/x.tmp-", 22) == 0, "%s", e.text);
    ck_assert_int_eq(file_map_open(&m, "/", 10, &e), -1);
    ck_assert_str_eq(e.text, "map /: not a regular file");
    ck_assert_int_eq(file_read_all("/", 10, &text, NULL, &e), -1);
    ck_assert_str_eq(e.text, "read /: Is a directory");
    ck_assert_int_eq(e.code, ERR_IO);
}
END_TEST

static int fill_then_fail(int fd, const char *path, void *arg, struct err *e)
{
    (void)arg;
    if (file_write(fd, "half", 4, path, e) < 0)
        return -1;
    return err_set(e, ERR_NONFINITE, "the source broke");
}

START_TEST(a_place_is_where_a_file_can_be_made)
{
    static const char *const good[] = {"f", "./f", "/tmp/f", "/dev/null", "link"};
    struct err e;
    in_temp_folder();
    ck_assert_int_eq(symlink("/nowhere/x", "link"), 0);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(file_check_place(good[i], &e) == 0, "%s", e.text);
    ck_assert_int_eq(file_check_place("/nowhere/x", &e), -1);
    ck_assert_str_eq(e.text, "/nowhere/x cannot be made in /nowhere: No such file or directory");
    ck_assert_int_eq(file_check_place("link/x", &e), -1);
    ck_assert_int_eq(file_check_place("/tmp", &e), -1);
    drop_temp_folder();
}
END_TEST

START_TEST(a_failed_replace_leaves_the_old_file_and_nothing_else)
{
    in_temp_folder();
    struct err e = {0};
    char *text;
    ck_assert_int_eq(file_replace("f", "old", 3, 0600, &e), 0);
    ck_assert_int_eq(file_replace_with("f", 0600, fill_then_fail, NULL, &e), -1);
    ck_assert_str_eq(e.text, "the source broke");
    ck_assert_int_eq(e.code, ERR_NONFINITE);
    ck_assert_int_eq(file_read_all("f", 10, &text, NULL, &e), 0);
    ck_assert_str_eq(text, "old");
    mem_free(text);
    ck_assert_int_eq(entries("."), 1);
    /* a folder in the way: rename fails, the temporary file goes */
    ck_assert_int_eq(file_make_folders("d/sub", &e), 0);
    ck_assert_int_eq(file_replace("d", "new", 3, 0600, &e), -1);
    ck_assert_msg(strncmp(e.text, "rename d.tmp-", 13) == 0, "%s", e.text);
    ck_assert_int_eq(entries("."), 2);
    drop_temp_folder();
}
END_TEST

START_TEST(a_full_disk_is_reported)
{
    struct err e = {0};
    FILE *full = fopen("/dev/full", "w");
    if (full == NULL) {
        test_skip("no /dev/full here");
        return;
    }
    ck_assert_int_eq(file_write(fileno(full), "x", 1, "/dev/full", &e), -1);
    ck_assert_str_eq(e.text, "write /dev/full: No space left on device");
    fclose(full);
}
END_TEST

START_TEST(replace_sets_the_permission_and_passes_over_leftovers)
{
    in_temp_folder();
    struct err e = {0};
    struct stat st;
    char left[64];
    snprintf(left, sizeof left, "key.tmp-%ld-0", (long)getpid());
    ck_assert_int_eq(symlink("elsewhere", left), 0); /* must not be written through */
    ck_assert_int_eq(file_replace("key", "secret", 6, 0600, &e), 0);
    ck_assert_int_eq(stat("key", &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert(!file_exists("elsewhere"));
    drop_temp_folder();
}
END_TEST

static int replace_meanwhile(int fd, const char *path, void *arg, struct err *e)
{
    ck_assert_int_eq(file_replace("f", "other", 5, 0600, e), 0); /* this file's own temporary one is no orphan */
    *(bool *)arg = file_exists(path);
    return file_write(fd, "mine", 4, path, e);
}

START_TEST(what_a_killed_writer_left_is_removed_by_the_next_one)
{
    static const char *const left[] = {"f.tmp-1-0", "f.tmp-99999-12"}, *const others[] = {"f.tmp-1", "f.tmp-1-x", "g.tmp-1-0", "f.tmp--1"};
    in_temp_folder();
    struct err e = {0};
    bool there = false;
    char *text;
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(file_append(left[i], "half", 4, &e), 0);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(file_append(others[i], "theirs", 6, &e), 0);
    ck_assert_int_eq(file_replace_with("f", 0600, replace_meanwhile, &there, &e), 0);
    ck_assert(there);
    ck_assert_int_eq(file_read_all("f", 10, &text, NULL, &e), 0);
    ck_assert_str_eq(text, "mine");
    mem_free(text);
    for (size_t i = 0; i < 4; i++)
        ck_assert_msg(file_exists(others[i]), "%s is gone", others[i]);
    ck_assert_int_eq(entries("."), 5);
    drop_temp_folder();
}
END_TEST

START_TEST(writers_of_one_file_do_not_take_each_others_for_orphans)
{
    enum { WRITERS = 4, TIMES = 250 };
    in_temp_folder();
    pid_t writer[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        writer[w] = fork();
        ck_assert_int_ge(writer[w], 0);
        if (writer[w] != 0)
            continue;
        struct err e;
        for (int i = 0; i < TIMES; i++)
            if (file_replace("f", "whole", 5, 0600, &e) < 0)
                _exit(1);
        _exit(0);
    }
    for (int w = 0; w < WRITERS; w++) {
        int status;
        ck_assert_int_eq(waitpid(writer[w], &status, 0), writer[w]);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_int_eq(entries("."), 1);
    drop_temp_folder();
}
END_TEST

START_TEST(a_link_a_device_and_a_pipe_stay)
{
    in_temp_folder();
    struct err e = {0};
    struct stat st;
    char text[8] = "";
    ck_assert_int_eq(mkfifo("pipe", 0600), 0);
    ck_assert_int_eq(symlink("pipe", "link"), 0);
    const int fd = open("pipe", O_RDONLY | O_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    ck_assert_msg(file_replace("link", "abc", 3, 0644, &e) == 0, "%s", e.text);
    ck_assert_int_eq(read(fd, text, sizeof text), 3);
    ck_assert_str_eq(text, "abc");
    ck_assert(lstat("pipe", &st) == 0 && S_ISFIFO(st.st_mode));
    ck_assert(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
    ck_assert_int_eq(unlink("link") + symlink("file", "link"), 0);
    ck_assert_int_eq(file_replace("file", "", 0, 0644, &e), 0);
    ck_assert_msg(file_replace("link", "abcd", 4, 0644, &e) == 0, "%s", e.text);
    ck_assert(lstat("link", &st) == 0 && S_ISLNK(st.st_mode) && stat("file", &st) == 0 && st.st_size == 4);
    close(fd);
    drop_temp_folder();
}
END_TEST

START_TEST(append_adds_and_size_tells)
{
    in_temp_folder();
    struct err e = {0};
    uint64_t bytes = 0;
    ck_assert_int_eq(file_append("log", "a\n", 2, &e), 0);
    ck_assert_int_eq(file_append("log", "b\n", 2, &e), 0);
    ck_assert_int_eq(file_size("log", &bytes, &e), 0);
    ck_assert_uint_eq(bytes, 4);
    ck_assert_int_eq(file_size("none", &bytes, &e), -1);
    ck_assert_int_eq(e.code, ERR_NOT_FOUND);
    drop_temp_folder();
}
END_TEST

START_TEST(a_line_that_a_full_disk_tears_is_taken_back)
{
    in_temp_folder();
    struct err e;
    struct rlimit room;
    char *text;
    ck_assert_int_eq(file_append("log", "first\n", 6, &e), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &room), 0);
    const struct rlimit little = {.rlim_cur = 10, .rlim_max = room.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
    ck_assert_int_eq(file_append("log", "second\n", 7, &e), -1);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &room), 0);
    ck_assert_int_eq(file_append("log", "second\n", 7, &e), 0);
    ck_assert_int_eq(file_read_all("log", 100, &text, NULL, &e), 0);
    ck_assert_str_eq(text, "first\nsecond\n");
    mem_free(text);
    drop_temp_folder();
}
END_TEST

START_TEST(folders_are_made_to_any_depth_and_over_no_file)
{
    in_temp_folder();
    struct err e = {0};
    ck_assert_int_eq(file_make_folders("a/b//c/", &e), 0);
    ck_assert_int_eq(file_make_folders("a/b/c", &e), 0);
    ck_assert(file_exists("a/b/c"));
    ck_assert_int_eq(file_replace("a/f", "", 0, 0644, &e), 0);
    ck_assert_int_eq(file_make_folders("a/f/x", &e), -1);
    ck_assert_str_eq(e.text, "mkdir a/f: Not a directory");
    drop_temp_folder();
}
END_TEST

START_TEST(removing_a_tree_does_not_follow_links)
{
    in_temp_folder();
    struct err e = {0};
    ck_assert_int_eq(file_make_folders("keep", &e), 0);
    ck_assert_int_eq(file_replace("keep/f", "x", 1, 0644, &e), 0);
    ck_assert_int_eq(file_make_folders("gone/deep/er", &e), 0);
    ck_assert_int_eq(symlink("../keep", "gone/link"), 0);
    ck_assert_int_eq(symlink("keep", "toplink"), 0);
    ck_assert_int_eq(file_remove_tree("gone", &e), 0);
    ck_assert_int_eq(file_remove_tree("toplink", &e), 0);
    ck_assert_int_eq(file_remove_tree("never", &e), 0);
    ck_assert(file_exists("keep/f"));
    ck_assert(!file_exists("gone"));
    drop_temp_folder();
}
END_TEST

static int collect(const char *name, void *arg, struct err *e)
{
    (void)e;
    char *names = arg;
    snprintf(names + strlen(names), 8, "%s", name);
    return strcmp(name, "c") == 0 ? err_set(e, ERR_CLOSED, "stop") : 0;
}

START_TEST(a_list_is_sorted_bounded_and_can_stop)
{
    in_temp_folder();
    struct err e = {0};
    char names[64] = "";
    for (const char *p = "dbac"; *p != 0; p++)
        ck_assert_int_eq(file_replace((const char[]){*p, 0}, "", 0, 0644, &e), 0);
    ck_assert_int_eq(file_list(".", 4, collect, names, &e), -1);
    ck_assert_str_eq(names, "abc");
    ck_assert_int_eq(e.code, ERR_CLOSED);
    ck_assert_int_eq(file_list(".", 3, collect, names, &e), -1);
    ck_assert_int_eq(e.code, ERR_FULL);
    drop_temp_folder();
}
END_TEST

START_TEST(join_keeps_names_inside_the_folder)
{
    char out[FILE_PATH_BYTES_MAX];
    struct err e = {0};
    static const struct {
        const char *folder, *name, *want;
    } good[] = {
        {"a", "b", "a/b"}, {"a/", "b/c", "a/b/c"}, {"/", "x", "/x"}, {"", "x", "x"}, {"a", "..b", "a/..b"}, {"a", "b..", "a/b.."},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_msg(file_join(out, good[i].folder, good[i].name, &e) == 0, "case %zu: %s", i, e.text);
        ck_assert_str_eq(out, good[i].want);
    }
    static const char *const bad[] = {"", "/etc/passwd", "..", "../x", "a/../b", "a/.."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(file_join(out, "a", bad[i], &e) == -1 && e.code == ERR_INVALID, "case %zu", i);
    char *huge = mem_new(FILE_PATH_BYTES_MAX, 1);
    memset(huge, 'h', FILE_PATH_BYTES_MAX - 3);
    ck_assert_int_eq(file_join(out, "a", huge, &e), 0);
    huge[FILE_PATH_BYTES_MAX - 3] = 'h';
    ck_assert_int_eq(file_join(out, "a", huge, &e), -1);
    mem_free(huge);
}
END_TEST

START_TEST(one_process_holds_a_lock_and_death_drops_it)
{
    in_temp_folder();
    struct err e = {0};
    struct file_lock mine = {0}, other = {0};
    int ready[2], hold[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    ck_assert_int_eq(pipe(hold), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        close(hold[1]);
        byte = file_lock_take(&mine, "l", &e) == 0 ? 'y' : 'n';
        if (write(ready[1], &byte, 1) == 1 && read(hold[0], &byte, 1) == 0)
            _exit(0); /* without dropping it */
        _exit(1);
    }
    close(hold[0]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(byte, 'y');
    ck_assert_int_eq(file_lock_take(&mine, "l", &e), -1);
    ck_assert_int_eq(e.code, ERR_CONFLICT);
    close(hold[1]);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_msg(file_lock_take(&mine, "l", &e) == 0, "%s", e.text);
    ck_assert_int_eq(file_lock_take(&other, "l", &e), -1); /* even inside one process */
    file_lock_drop(&mine);
    ck_assert_int_eq(file_lock_take(&other, "l", &e), 0);
    file_lock_drop(&other);
    file_lock_drop(&other);
    drop_temp_folder();
}
END_TEST

SUITE("base/file", 20, what_was_written_is_read_back_terminated,
      the_bound_on_a_read_holds_for_files_and_for_pipes, errors_name_the_step_and_the_path,
      a_place_is_where_a_file_can_be_made, a_failed_replace_leaves_the_old_file_and_nothing_else, a_full_disk_is_reported,
      replace_sets_the_permission_and_passes_over_leftovers,
      what_a_killed_writer_left_is_removed_by_the_next_one, writers_of_one_file_do_not_take_each_others_for_orphans, a_link_a_device_and_a_pipe_stay, append_adds_and_size_tells,
      a_line_that_a_full_disk_tears_is_taken_back,
      folders_are_made_to_any_depth_and_over_no_file, removing_a_tree_does_not_follow_links,
      a_list_is_sorted_bounded_and_can_stop, join_keeps_names_inside_the_folder,
      one_process_holds_a_lock_and_death_drops_it)
