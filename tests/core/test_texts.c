/* A list of texts: it owns copies, keeps their order, and can be used again once cleared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/texts.h"

static void keeps_copies_in_order(void **state)
{
    (void)state;
    struct sw_texts texts = {0};
    char text[16];
    enum { MANY = 1000 }; /* several times the room it starts with */
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(sw_texts_add(&texts, text), SW_OK);
    }
    assert_int_equal(texts.count, MANY);
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "%d", i);
        assert_string_equal(texts.items[i], text);
    }
    assert_true(sw_texts_have(&texts, "999"));
    assert_false(sw_texts_have(&texts, "1000"));
    sw_texts_clear(&texts);
}

static void is_empty_when_cleared(void **state)
{
    (void)state;
    struct sw_texts texts = {0};
    assert_int_equal(sw_texts_add(&texts, NULL), SW_OK);
    assert_string_equal(texts.items[0], "");
    sw_texts_clear(&texts);
    assert_int_equal(texts.count, 0);
    assert_null(texts.items);
    assert_false(sw_texts_have(&texts, ""));
    assert_int_equal(sw_texts_add(&texts, "again"), SW_OK);
    assert_string_equal(texts.items[0], "again");
    sw_texts_clear(&texts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_copies_in_order),
        cmocka_unit_test(is_empty_when_cleared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
