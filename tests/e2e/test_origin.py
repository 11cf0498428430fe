# SPDX-License-Identifier: Apache-2.0
"""What pages of other sites can do with a visitor's browser."""

import json

import httpx
import pytest

from conftest import SLOW

BODY = json.dumps({"prompt": "Once upon a time", "max_tokens": 4})
EVIL = {"Origin": "https://evil.example", "Content-Type": "text/plain"}


def post(url, headers, **kw):
    return httpx.post(url + "/v1/completions", content=BODY, headers=headers, timeout=60 * SLOW, **kw)


def used_us(url):
    return httpx.get(url + "/v1/quota").json()["used_us"]


@pytest.fixture(scope="module")
def url(server):
    return server.url


@pytest.mark.parametrize(
    "headers",
    [
        EVIL,
        {**EVIL, "Sec-Fetch-Site": "cross-site"},
        {**EVIL, "Origin": "null"},
        {**EVIL, "Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example:7860", "Origin": "http://evil.example:7860"},
    ],
)
def test_a_foreign_page_spends_nothing(url, headers):
    before = used_us(url)
    for path in ("/v1/completions", "/v1/chat/completions", "/tokenize"):
        r = httpx.post(url + path, content=BODY, headers=headers)
        assert r.status_code == 403 and "send a key" in r.json()["error"]["message"], path
    assert used_us(url) == before
    r = httpx.get(url + "/v1/quota", headers=headers)
    assert "access-control-allow-origin" not in r.headers


def test_the_own_page_curl_and_keys(url, server):
    port = server.port
    for headers in (
        {},
        {"Content-Type": "application/x-www-form-urlencoded"},  # curl -d
        {"Origin": url, "Sec-Fetch-Site": "same-origin"},
        {"Origin": url},
        {"Origin": f"http://localhost:{port}", "Host": f"localhost:{port}"},
        {"Origin": "https://box.example", "Sec-Fetch-Site": "same-origin"},  # a proxy that keeps no Host
        {"Sec-Fetch-Site": "none"},
        {**EVIL, "Sec-Fetch-Site": "cross-site", "Authorization": "Bearer key-pro"},
        {**EVIL, "X-Api-Key": "key-free"},
    ):
        r = post(url, headers)
        assert r.status_code == 200, (headers, r.text)
        assert ("access-control-allow-origin" in r.headers) == ("Origin" in headers)
        assert r.headers["vary"] == "Origin"
    wrong = post(url, {**EVIL, "Authorization": "Bearer nobody"})
    assert wrong.status_code == 401 and wrong.headers["access-control-allow-origin"] == "*"


def test_preflight(url):
    def ask(headers):
        return httpx.options(
            url + "/v1/completions",
            headers={"Origin": "https://chat.example", "Access-Control-Request-Method": "POST", **headers},
        )

    r = ask({"Access-Control-Request-Headers": "authorization,content-type"})
    assert r.status_code == 204 and r.headers["access-control-allow-origin"] == "*"
    assert "Authorization" in r.headers["access-control-allow-headers"]
    r = ask({"Access-Control-Request-Headers": "content-type"})
    assert r.status_code == 204 and "access-control-allow-origin" not in r.headers
    page = {"Origin": "https://chat.example"}
    assert httpx.get(url + "/v1/models", headers=page).headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in httpx.get(url + "/v1/queue", headers=page).headers
    page["Authorization"] = "Bearer key-pro"
    assert httpx.get(url + "/v1/queue", headers=page).headers["access-control-allow-origin"] == "*"


def test_a_name_that_is_not_this_machines(url, start):
    evil, mine = {"Host": "evil.example:7860"}, {"Host": "box.example"}
    for path in ("/", "/v1/models", "/v1/quota", "/metrics"):
        r = httpx.get(url + path, headers=evil)
        assert r.status_code == 403 and "--trusted-proxy" in r.json()["error"]["message"], path
    assert httpx.get(url + "/v1/quota", headers={**evil, "Authorization": "Bearer key-pro"}).status_code == 200
    assert httpx.get(url + "/", headers={**mine, "Sec-Fetch-Site": "none"}).status_code == 200  # came by https
    raw = httpx.Client(base_url=url)
    assert raw.get("/health/live", headers={"Host": "localhost:1"}).status_code == 200
    proxied = start("--trusted-proxy", "127.0.0.1").url
    assert httpx.get(proxied + "/v1/models", headers=mine).status_code == 200
    assert post(proxied, {**mine, "Origin": "https://box.example"}).status_code == 200
    assert post(proxied, {"Origin": "https://box.example", "X-Forwarded-Host": "box.example"}).status_code == 200
    assert post(proxied, EVIL).status_code == 403
    anywhere = start("--host", "0.0.0.0").url
    assert httpx.get(anywhere + "/v1/models", headers=mine).status_code == 200  # a tunnel on this machine
    assert post(anywhere, mine).status_code == 200
    rebound = {"Host": "evil.example:7860", "Origin": "http://evil.example:7860"}
    assert post(anywhere, rebound).status_code == 403


def test_a_space(start):
    s = start(env={"SPACE_ID": "user/space"})
    page = {"Host": "user-space.hf.space", "X-Forwarded-For": "203.0.113.7"}
    assert httpx.get(s.url + "/", headers=page).status_code == 200
    own = {**page, "Origin": "https://user-space.hf.space"}
    assert post(s.url, own).status_code == 200
    assert post(s.url, {**own, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert post(s.url, {**page, **EVIL, "Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_cors_origins(start):
    s = start("--cors-origins", "https://chat.example, http://box.example:8080")
    listed = {**EVIL, "Origin": "https://chat.example", "Sec-Fetch-Site": "cross-site"}
    r = post(s.url, listed)
    assert r.status_code == 200 and r.headers["access-control-allow-origin"] == "*"
    assert post(s.url, EVIL).status_code == 403
    assert httpx.get(s.url + "/v1/models", headers={"Host": "box.example:8080"}).status_code == 200
    r = httpx.options(s.url + "/v1/completions", headers=listed)
    assert r.headers["access-control-allow-origin"] == "*"
    every = start(env={"BATON_CORS_ORIGINS": "*"})
    assert post(every.url, EVIL).status_code == 200
    bad = start("--cors-origins", "chat.example", wait=False)
    assert bad.process.wait(20 * SLOW) == 2
    assert "--cors-origins: 'chat.example' is not like https://HOST" in bad.log
