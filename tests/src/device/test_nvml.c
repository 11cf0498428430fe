/* SPDX-License-Identifier: Apache-2.0 */
/* test_nvml.c - what the driver's management library says, here a made-up one (fake_nvml.c): ctest
 * puts it on the library path. */
#include "device/nvml.h"
#include "test.h"
#include <unistd.h>

static char path[] = "/tmp/baton-nvml-XXXXXX";

static void write_memory(const char *line)
{
    FILE *f = fopen(path, "w");
    REQUIRE(f && fputs(line, f) >= 0);
    fclose(f);
}

static void memory_by_either_name(void)
{
    static const char *const id[] = {"GPU-12345678-9abc-def0-1234-56789abcdef0", "MIG-1234",
                                     "0000:65:00.0"};
    for (size_t i = 0; i < sizeof id / sizeof *id; i++) {
        char line[128];
        bt_nvml_memory m = {0};
        bt_err err = {0};
        snprintf(line, sizeof line, "%s 85899345920 5000000000 80899345920\n", id[i]);
        write_memory(line);
        CHECK_INT(bt_nvml_memory_read(id[i], &m, &err), BT_OK);
        CHECK(m.total_bytes == 85899345920 && m.free_bytes == 5000000000 &&
              m.used_bytes == 80899345920);
        CHECK_INT(bt_nvml_memory_read("GPU-other", &m, &err), BT_EDEVICE);
        CHECK(strstr(err.msg, "memory of GPU-other: Not Found") != NULL);
        CHECK_INT(m.free_bytes, 5000000000); // untouched
    }
    char driver[32];
    CHECK_INT(bt_nvml_driver(driver, sizeof driver, NULL), BT_OK);
    CHECK_STR(driver, "550.54.15");
}

static void faults_are_told(void)
{
    bt_nvml_memory m;
    bt_err err = {0};
    write_memory("");
    CHECK_INT(bt_nvml_memory_read("GPU-1", &m, &err), BT_EDEVICE);
    CHECK(strstr(err.msg, "Unknown Error") != NULL);
}

int main(void)
{
    bt_err err = {0};
    char driver[32];
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    close(fd);
    REQUIRE(setenv("FAKE_NVML", path, 1) == 0);
    const char *libraries = getenv("LD_LIBRARY_PATH");
    if (!libraries || !strstr(libraries, "fake-nvml")) {
        /* Run by hand: a driver may be there or not; without one every question says so. */
        bt_status rc = bt_nvml_driver(driver, sizeof driver, &err);
        CHECK(rc == BT_OK || rc == BT_ENOTFOUND);
        unlink(path);
        return TEST_END();
    }
    RUN(memory_by_either_name);
    RUN(faults_are_told);
    unlink(path);
    return TEST_END();
}
