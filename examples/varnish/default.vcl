# Varnish in front of two WebSocket servers: the command in the guide starts it.

vcl 4.1;

import directors;

probe health {
    .url = "/health";
    .interval = 2s;
    .window = 2;
    .threshold = 1;
    # A server counts as healthy until a check fails.
    .initial = 1;
}

backend first  { .host = "127.0.0.1"; .port = "8765"; .probe = health; }
backend second { .host = "127.0.0.1"; .port = "8766"; .probe = health; }

sub vcl_init {
    new websocket_servers = directors.round_robin();
    websocket_servers.add_backend(first);
    websocket_servers.add_backend(second);
}

sub vcl_recv {
    set req.backend_hint = websocket_servers.backend();
    # Clients can forge this header: pass on only the address that Varnish has seen.
    set req.http.X-Forwarded-For = client.ip;
    if (req.http.Upgrade ~ "(?i)^websocket$") {
        # From here on Varnish passes on bytes without looking at them.
        return (pipe);
    }
}

sub vcl_pipe {
    if (req.http.Upgrade) {
        set bereq.http.Upgrade = req.http.Upgrade;
        set bereq.http.Connection = req.http.Connection;
    }
}
