"""Two requests of one browser overlap: each key is merged, and no update is lost."""

from django_mongo_sessions.backends.mongodb import SessionStore


def test_different_keys_are_both_kept(do, two, held):
    earlier, later = two(book="Sherlock Holmes")
    earlier["a"] = 1
    later["b"] = 2

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"book": "Sherlock Holmes", "a": 1, "b": 2}


def test_after_a_save_the_session_shows_what_was_merged(do, two):
    earlier, later = two(gone=1, stays=[1])
    stays = later["stays"]
    earlier["a"] = 1
    del earlier["gone"]
    do(earlier, "save")
    later["b"] = 2

    do(later, "save")

    assert dict(later.items()) == {"stays": [1], "a": 1, "b": 2}
    assert later["stays"] is stays


def test_a_key_that_the_later_save_deletes_is_gone(do, two, held):
    earlier, later = two(a=1, b=1)
    earlier["a"] = 2
    del later["a"]

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"b": 1}


def test_a_key_that_the_earlier_save_deleted_stays_deleted(do, two, held):
    earlier, later = two(a=1, b=1)
    del earlier["a"]
    later["b"] = 2

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"b": 2}


def test_unless_the_later_save_has_changed_it(do, two, held):
    earlier, later = two(a=1, b=1)
    del earlier["a"]
    later["a"] = 2

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"a": 2, "b": 1}


def test_the_later_save_of_a_key_wins(do, two, held):
    earlier, later = two(a=1)
    earlier["a"] = 2
    later["a"] = 3

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"a": 3}


def test_a_change_inside_a_value_counts(do, two, held):
    earlier, later = two(cart=[1], seen=[1])
    earlier["seen"].append(2)
    later["cart"].append(2)

    do(earlier, "save")
    do(later, "save")

    assert held(later) == {"cart": [1, 2], "seen": [1, 2]}


def test_it_also_counts_in_a_value_that_this_request_has_set(do, two, held):
    earlier, later = two(seen=[1])
    cart = [1]
    later["cart"] = cart
    do(later, "save")
    cart.append(2)
    earlier["seen"] = []
    do(earlier, "save")

    do(later, "save")

    assert held(later) == {"cart": [1, 2], "seen": []}


def test_three_in_a_row_lose_nothing(do, stored, held):
    key = stored().session_key
    stores = [SessionStore(key) for _ in range(3)]
    for number, store in enumerate(stores):
        do(store, "_get_session")[f"n{number}"] = number

    for store in [*stores, *stores]:
        do(store, "save")

    assert held(stores[0]) == {"n0": 0, "n1": 1, "n2": 2}
