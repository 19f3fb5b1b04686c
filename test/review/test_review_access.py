"""Who is let in, and who is not: names, origins, tokens, cookies, headers."""

import re

import pytest
from review_helpers import HOST, ORIGIN, REVIEWER, client_of, first_id, write_output
from starlette.testclient import TestClient

from uga.review.access import SECURITY_HEADERS, Tokens


@pytest.fixture
def client(tmp_path):
    write_output(tmp_path)
    return client_of(tmp_path)


@pytest.fixture
def stranger(client):
    """A browser without a cookie, at the same page."""
    return TestClient(client.app, base_url=ORIGIN, raise_server_exceptions=False)


def decision(client, **headers):
    identity = first_id(client)
    version = client.get(f"/api/patches/{identity}").json()["version"]
    content = {"base": version, "reviewer": REVIEWER, "action": "skip"}
    return client.post(f"/api/patches/{identity}/review", json=content, headers=headers)


# --- token and cookie ---


@pytest.mark.parametrize(
    "path", ["/api/session", "/api/patches", "/api/patches/x/image.png", "/api/corrections.zip", "/api/nothing"]
)
def test_without_a_token_no_data(stranger, path):
    answer = stranger.get(path)
    assert (answer.status_code, answer.json()["code"]) == (401, "token")


@pytest.mark.parametrize("path", ["/", "/patch/0", "/?token=", "/?token=x", "/nothing", "/static"])
def test_without_a_token_no_page(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "locked" in answer.text
    assert "set-cookie" not in answer.headers


def test_without_a_token_the_code_alone(stranger):
    """The locked page is made of it, and it is no secret."""
    assert stranger.get("/static/style.css").status_code == 200
    assert stranger.get("/static/../api/patches").status_code == 401


@pytest.mark.parametrize(
    "cookie", ["", "x", "uga_review_8080=", "uga_review_8080=x", 'uga_review_8080="', "a=b; ;;=\x01"]
)
def test_a_made_up_cookie_is_none(stranger, cookie):
    assert stranger.get("/api/session", headers={"Cookie": cookie}).status_code == 401


@pytest.mark.parametrize("around", ['consent={"a":1}; {}', '{}; consent={"a":1}', "a b=c;{};", "{}; uga_review_8080=x"])
def test_cookies_of_other_pages_do_not_lock_anybody_out(client, stranger, around):
    own = f"uga_review_8080={client.cookies['uga_review_8080']}"
    assert stranger.get("/api/session", headers={"Cookie": around.replace("{}", own)}).status_code == 200


def test_a_token_lets_one_browser_in_and_the_next_one_is_announced(client, stranger):
    used, current = client.tokens[-2:]
    assert used != current
    assert len(current) >= 43, "256 bits"
    assert stranger.get("/", params={"token": used}).status_code == 401
    answer = stranger.get("/", params={"token": current})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(r"uga_review_8080=[\w-]{43}; HttpOnly; Path=/; SameSite=strict", cookie)
    assert current not in cookie
    assert current not in answer.text
    assert stranger.get("/api/session").status_code == 200
    assert client.get("/api/session").status_code == 200, "the first browser stays in"
    assert client.tokens[-1] != current


def test_a_browser_that_is_in_may_open_a_used_address_again(client):
    answer = client.get("/", params={"token": client.tokens[-2]})
    assert "main.js" in answer.text


def test_a_token_counts_on_the_first_page_only(client, stranger):
    token = client.tokens[-1]
    assert stranger.get("/api/session", params={"token": token}).status_code == 401
    assert stranger.post("/", params={"token": token}, headers={"Origin": ORIGIN}).status_code == 401
    assert client.tokens[-1] == token, "nothing was used up"


def test_no_token_before_one_was_made():
    assert Tokens(announce=lambda _: None).exchange("") is None


# --- names: rebinding ---


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "10.1.2.3", "proxy.example", "LOCALHOST"]
)
def test_numbers_and_names_that_were_given_are_ours(client, host):
    assert client.get("/api/session", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1", "1"]
)
def test_foreign_names_are_refused_whatever_cookie_comes_along(client, host):
    answer = client.get("/api/session", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "host")


# --- origins: requests of other pages ---


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:8081"},
        {"Origin": "http://localhost:8080"},
        {"Origin": f"{ORIGIN}.evil.example"},
        {"Origin": "http://[::1"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_cannot_change_anything(client, tmp_path, headers):
    answer = decision(client, **headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin")
    assert not (tmp_path / "reviews.jsonl").exists()


def test_a_request_without_an_origin_cannot_change_anything(client):
    del client.headers["Origin"]
    assert decision(client).status_code == 403


def test_the_page_itself_can(client, tmp_path):
    assert decision(client, **{"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert (tmp_path / "reviews.jsonl").exists()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_plain_form_could_not_even_if_its_origin_got_through(client, kind):
    """Browsers send these kinds across origins without asking first."""
    identity = first_id(client)
    answer = client.post(f"/api/patches/{identity}/review", content=b"{}", headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (415, "content-type")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_every_method_but_reading_needs_the_origin(client, method):
    assert client.request(method, "/api/patches", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.request(method, "/api/patches").status_code == 405


# --- headers ---


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/patches", "/api/nothing", "/nothing"])
def test_every_answer_is_closed_to_other_pages(client, stranger, path):
    for browser in (client, stranger):
        headers = browser.get(path).headers
        assert {name: headers[name] for name in SECURITY_HEADERS if name != "Cache-Control"} == {
            name: value for name, value in SECURITY_HEADERS.items() if name != "Cache-Control"
        }
        assert "access-control-allow-origin" not in headers


def test_the_policy_allows_no_foreign_code_and_no_inline_code():
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert HOST not in policy


def test_data_is_not_kept_by_caches(client):
    assert client.get("/api/patches").headers["cache-control"] == "no-store"
