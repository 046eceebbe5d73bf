"""Settings of the system beside targets: which proxy ours, curl 7.88.1 and httpx 0.28.1 take.

The columns of curl and httpx were measured with a proxy that notes what it is asked; ``tests/interop`` measures that of
curl again. Where 17.4 takes a proxy or makes an exception, so do we. Where it raises an error or knows nothing of a
setting, ours is what either of the others does, as far as that makes sense. Neither of them has ``ws://``, so theirs
stands for ``http://`` and ``https://``.

A proxy is written as its scheme and the credentials that it gets.
"""

from __future__ import annotations

__all__ = ["EXCEPTIONS", "HERE", "SETTINGS", "environment"]

# What stands for the address of the proxy, and a proxy that must not be asked.
HERE = "HERE"
ELSEWHERE = "http://localhost:1"

Environment = dict[str, str]
Outcome = tuple[str, ...]

# Environment variables; the proxy that we take for ws:// and wss://; those of curl and httpx for http:// and https://.
SETTINGS: list[tuple[Environment, Outcome, Outcome, Outcome]] = [
    # Which variable. In 17.4, that for https:// is good for ws://, too.
    ({"http_proxy": "http://HERE"}, ("http", "direct"), ("http", "direct"), ("http", "direct")),
    ({"https_proxy": "http://HERE"}, ("http", "http"), ("direct", "http"), ("direct", "http")),
    ({"all_proxy": "http://HERE"}, ("http", "http"), ("http", "http"), ("http", "http")),
    ({"all_proxy": ELSEWHERE, "https_proxy": "http://HERE"}, ("http", "http"), ("error", "http"), ("error", "http")),
    ({"https_proxy": "", "all_proxy": "http://HERE"}, ("http", "http"), ("http", "http"), ("http", "http")),
    # Upper case. In 17.4, and for httpx, an empty variable in lower case takes away that in upper case.
    ({"HTTP_PROXY": "http://HERE"}, ("http", "direct"), ("direct", "direct"), ("http", "direct")),
    ({"HTTPS_PROXY": "http://HERE"}, ("http", "http"), ("direct", "http"), ("direct", "http")),
    ({"Https_Proxy": "http://HERE"}, ("http", "http"), ("direct", "direct"), ("direct", "http")),
    ({"ALL_PROXY": "http://HERE"}, ("http", "http"), ("http", "http"), ("http", "http")),
    (
        {"https_proxy": "http://HERE", "HTTPS_PROXY": ELSEWHERE},
        ("http", "http"),
        ("direct", "http"),
        ("direct", "http"),
    ),
    ({"all_proxy": "http://HERE", "ALL_PROXY": ELSEWHERE}, ("http", "http"), ("http", "http"), ("http", "http")),
    ({"https_proxy": "", "HTTPS_PROXY": "http://HERE"}, ("direct", "direct"), ("direct", "http"), ("direct", "direct")),
    # Under CGI, this one is what the client says in a header "Proxy".
    (
        {"HTTP_PROXY": "http://HERE", "REQUEST_METHOD": "GET"},
        ("direct", "direct"),
        ("direct", "direct"),
        ("direct", "direct"),
    ),
    (
        {"http_proxy": "http://HERE", "REQUEST_METHOD": "GET"},
        ("http", "direct"),
        ("http", "direct"),
        ("http", "direct"),
    ),
    # How it is written.
    ({"all_proxy": "HERE"}, ("http", "http"), ("http", "http"), ("http", "http")),
    (
        {"all_proxy": "user:secret@HERE"},
        ("http user:secret",) * 2,
        ("http user:secret",) * 2,
        ("http user:secret",) * 2,
    ),
    ({"all_proxy": "HERE/path"}, ("http", "http"), ("http", "http"), ("http", "http")),
    ({"all_proxy": "HTTP://HERE"}, ("http", "http"), ("http", "http"), ("http", "http")),
    ({"all_proxy": "http://HERE/path?query#fragment"}, ("http", "http"), ("http", "http"), ("http", "http")),
    ({"all_proxy": "http://user@HERE"}, ("http user:",) * 2, ("http user:",) * 2, ("http user:",) * 2),
    ({"all_proxy": "http://:secret@HERE"}, ("http :secret",) * 2, ("http :secret",) * 2, ("http :secret",) * 2),
    ({"all_proxy": "http://@HERE"}, ("http", "http"), ("http :", "http :"), ("http", "http")),
    ({"all_proxy": "http://:@HERE"}, ("http :", "http :"), ("http :", "http :"), ("http", "http")),
    (
        {"all_proxy": "http://us%20er:s%40c@HERE"},
        ("http us er:s@c",) * 2,
        ("http us er:s@c",) * 2,
        ("http us er:s@c",) * 2,
    ),
    ({"all_proxy": " http://HERE "}, ("http", "http"), ("error", "error"), ("error", "error")),
    ({"all_proxy": "  "}, ("direct", "direct"), ("error", "error"), ("error", "error")),
    ({"all_proxy": "https://HERE"}, ("https", "https"), ("https", "https"), ("https", "https")),
    # SOCKS. In 17.4, and for curl, the last letter says that the proxy looks names up.
    ({"all_proxy": "socks://HERE"}, ("socks4", "socks4"), ("socks4", "socks4"), ("error", "error")),
    ({"all_proxy": "socks://HERE/"}, ("socks4", "socks4"), ("socks4", "socks4"), ("error", "error")),
    ({"all_proxy": "SOCKS4://HERE"}, ("socks4", "socks4"), ("socks4", "socks4"), ("error", "error")),
    ({"all_proxy": "socks4a://HERE"}, ("socks4a", "socks4a"), ("socks4a", "socks4a"), ("error", "error")),
    ({"all_proxy": "socks5://HERE"}, ("socks5", "socks5"), ("socks5", "socks5"), ("socks5h", "socks5h")),
    ({"all_proxy": "socks5h://HERE"}, ("socks5h", "socks5h"), ("socks5h", "socks5h"), ("socks5h", "socks5h")),
    ({"all_proxy": "socks5h://u:s@HERE"}, ("socks5h u:s",) * 2, ("socks5h u:s",) * 2, ("socks5h u:s",) * 2),
    ({"all_proxy": "socks5h://user@HERE"}, ("socks5h user:",) * 2, ("socks5h user:",) * 2, ("socks5h user:",) * 2),
    # What is wrong. In ours, that is a password which isn't percent-encoded, and a slash that lacks.
    ({"all_proxy": "http://user:12/34@HERE"}, ("error", "error"), ("error", "error"), ("error", "error")),
    ({"all_proxy": "http:/HERE"}, ("error", "error"), ("http", "http"), ("error", "error")),
    ({"all_proxy": "http:HERE"}, ("error", "error"), ("error", "error"), ("error", "error")),
    ({"all_proxy": "//HERE"}, ("error", "error"), ("error", "error"), ("error", "error")),
    ({"all_proxy": "ftp://HERE"}, ("error", "error"), ("error", "error"), ("error", "error")),
    ({"all_proxy": "http://localhost:99999"}, ("error", "error"), ("error", "error"), ("error", "error")),
    ({"all_proxy": "http://localhost:x"}, ("error", "error"), ("error", "error"), ("error", "error")),
]

# The value of no_proxy; and for each target whether ours, curl and httpx go Directly, through the Proxy, or End with an
# error. Targets without a scheme have http:// before them, or for us ws://.
EXCEPTIONS: list[tuple[str, dict[str, str]]] = [
    # Names: a dot before them makes no difference, but for httpx.
    ("example.com", {"example.com": "DDD", "www.example.com": "DDD", "notexample.com": "PPP", "example.com.": "DDP"}),
    (".example.com", {"example.com": "DDP", "www.example.com": "DDD", "notexample.com": "PPP"}),
    ("*.example.com", {"example.com": "PPP", "www.example.com": "DPP", "notexample.com": "PPP"}),
    ("*example.com", {"example.com": "PPP", "www.example.com": "PPP", "notexample.com": "PPP"}),
    ("EXAMPLE.com", {"example.com": "DDD", "www.example.com": "DDD", "notexample.com": "PPP"}),
    ("example.com.", {"example.com": "DDP", "www.example.com": "DDP", "notexample.com": "PPP", "example.com.": "DDD"}),
    (".example.com.", {"example.com": "DDP", "www.example.com": "DDP", "notexample.com": "PPP", "example.com.": "DDP"}),
    ("..example.com", {"example.com": "DPP", "www.example.com": "DPP", "notexample.com": "PPP"}),
    ("xample.com", {"example.com": "PPP", "www.example.com": "PPP", "notexample.com": "PPP"}),
    ("com", {"example.com": "DDD", "www.example.com": "DDD", "notexample.com": "DDD"}),
    (".com", {"example.com": "DDD", "www.example.com": "DDD", "notexample.com": "DDD"}),
    ("example.*", {"example.com": "PPP", "www.example.com": "PPP", "notexample.com": "PPP"}),
    ("www.example.com", {"example.com": "PPP", "www.example.com": "DDD", "notexample.com": "PPP"}),
    ("http://example.com", {"example.com": "PPD", "https://example.com": "PPP", "example.com:8080": "PPD"}),
    # Everything.
    ("*", {"example.com": "DDD"}),
    ("other.com,*", {"example.com": "DPD"}),
    ("* ", {"example.com": "DPD"}),
    # Between entries.
    ("other.com, example.com", {"example.com": "DDD", "notexample.com": "PPP"}),
    ("other.com example.com", {"example.com": "DDP", "notexample.com": "PPP"}),
    ("other.com\texample.com", {"example.com": "DDE", "notexample.com": "PPE"}),
    (" example.com ", {"example.com": "DDD", "notexample.com": "PPP"}),
    (",,example.com", {"example.com": "DDD", "notexample.com": "PPP"}),
    ("other.com;example.com", {"example.com": "PPP", "notexample.com": "PPP"}),
    # Ports. In 17.4 they count.
    ("example.com:80", {"example.com": "DPP", "https://example.com": "PPP", "example.com:8080": "PPP"}),
    ("example.com:443", {"example.com": "PPP", "https://example.com": "DPP", "example.com:8080": "PPP"}),
    ("example.com:", {"example.com": "DPD", "https://example.com": "DPD", "example.com:8080": "DPD"}),
    ("10.1.2.3:80", {"10.1.2.3": "DPP", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "DPP"}),
    # Addresses, in any spelling; IPv4 ones also within IPv6.
    ("10.1.2.3", {"10.1.2.3": "DDD", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "DPP"}),
    ("::ffff:10.1.2.3", {"10.1.2.3": "DPP", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "DDD"}),
    ("2.3", {"10.1.2.3": "DPD", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "DDD"}),
    ("10.", {"10.1.2.3": "PPP", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "PPP"}),
    ("10.*", {"10.1.2.3": "PPP", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "PPP"}),
    ("10.1.2.3.", {"10.1.2.3": "PPP", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "PPP"}),
    # Networks.
    ("10.0.0.0/8", {"10.1.2.3": "DDP", "10.200.0.1": "DDP", "[::ffff:10.1.2.3]": "DPP"}),
    ("10.0.0.0/16", {"10.1.2.3": "PPP", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "PPP"}),
    ("10.1.2.3/8", {"10.1.2.3": "DDD", "10.200.0.1": "DDP", "[::ffff:10.1.2.3]": "DPP"}),
    ("10.1.2.3/32", {"10.1.2.3": "DDD", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "DPP"}),
    ("10.1.2.3/33", {"10.1.2.3": "PPD", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "PPP"}),
    ("10.1.2.3/", {"10.1.2.3": "PDD", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "PPP"}),
    ("10.1.2.3/x", {"10.1.2.3": "PDD", "10.200.0.1": "PPP", "[::ffff:10.1.2.3]": "PPP"}),
    ("10.1.2.3/255.0.0.0", {"10.1.2.3": "DPD", "10.200.0.1": "DPP", "[::ffff:10.1.2.3]": "DPP"}),
    ("10.0.0.0/0", {"10.1.2.3": "DPP", "10.200.0.1": "DPP", "[::ffff:10.1.2.3]": "DPP"}),
    ("::ffff:10.0.0.0/104", {"10.1.2.3": "DPE", "10.200.0.1": "DPE", "[::ffff:10.1.2.3]": "DPE"}),
    # IPv6, with and without brackets.
    ("2001:db8::1", {"[2001:db8::1]": "DDD", "[2001:DB8:0:0:0:0:0:1]": "DDP", "[2001:db8::1%25eth0]": "DDP"}),
    ("[2001:db8::1]", {"[2001:db8::1]": "DPE", "[2001:DB8:0:0:0:0:0:1]": "DPE", "[2001:db8::1%25eth0]": "DPE"}),
    ("2001:DB8:0:0::1", {"[2001:db8::1]": "DPP", "[2001:DB8:0:0:0:0:0:1]": "DPP", "[2001:db8::1%25eth0]": "DPP"}),
    ("[2001:db8:0::1]", {"[2001:db8::1]": "DPE", "[2001:DB8:0:0:0:0:0:1]": "DPE", "[2001:db8::1%25eth0]": "DPE"}),
    ("2001:db8::2", {"[2001:db8::1]": "PPP", "[2001:DB8:0:0:0:0:0:1]": "PPP", "[2001:db8::1%25eth0]": "PPP"}),
    ("2001:db8::1:80", {"[2001:db8::1]": "DPP", "[2001:DB8:0:0:0:0:0:1]": "PPP", "[2001:db8::1%25eth0]": "PPP"}),
    ("[2001:db8::1]:80", {"[2001:db8::1]": "DPE", "[2001:DB8:0:0:0:0:0:1]": "DPE", "[2001:db8::1%25eth0]": "DPE"}),
    ("[2001:db8::1]:81", {"[2001:db8::1]": "PPE", "[2001:DB8:0:0:0:0:0:1]": "PPE", "[2001:db8::1%25eth0]": "PPE"}),
    ("2001:db8::/32", {"[2001:db8::1]": "DPE", "[2001:DB8:0:0:0:0:0:1]": "DPE", "[2001:db8::1%25eth0]": "DPE"}),
    ("[2001:db8::/32]", {"[2001:db8::1]": "DPE", "[2001:DB8:0:0:0:0:0:1]": "DPE", "[2001:db8::1%25eth0]": "DPE"}),
    ("2001:db8::1/128", {"[2001:db8::1]": "DPE", "[2001:DB8:0:0:0:0:0:1]": "DPE", "[2001:db8::1%25eth0]": "DPE"}),
    ("2001:db8::1/129", {"[2001:db8::1]": "PPE", "[2001:DB8:0:0:0:0:0:1]": "PPE", "[2001:db8::1%25eth0]": "PPE"}),
]


def environment(no_proxy: str) -> Environment:
    """Return the environment in which a list of exceptions is tried."""
    return {"http_proxy": "http://HERE", "https_proxy": "http://HERE", "no_proxy": no_proxy}
