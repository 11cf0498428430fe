/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - connections and calls. Private to src/http.
 *
 * LIFE     A bt_conn lives as long as its socket, a bt_call as long as one request on it. Both are
 * made, changed and freed on the loop thread, and only inside MHD_run(), except that a call may be
 * lent to another thread (as text work, or to the helper): meanwhile its connection is suspended,
 * so nothing can free it, and the loop touches nothing of it but `gone`.
 *
 * PARKED  A call without bytes to send suspends its connection ("parks"). Only the loop thread
 * resumes: with an external epoll a resume from another thread wakes nobody.
 *
 * WAKING  Front calls wake() on any thread; it notes the stream's id, never a pointer of ours, so
 * a wake that comes late finds nothing and does nothing. */
#pragma once
#include "api/dialect.h"
#include "base/hash.h"
#include "base/inbox.h"
#include "front/work.h"
#include "http/budget.h"
#include "http/framing.h"
#include "http/linger.h"
#include "http/origin.h"
#include "http/server.h"
#include "quota/address.h"
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

typedef struct bt_conn bt_conn;
typedef struct bt_call bt_call;
typedef struct bt_route bt_route;

enum { BT_HEADERS_MAX = 10 };

typedef struct bt_header {
    const char *name; // static
    const char *text; // static; NULL = value
    char value[80];
} bt_header;

struct bt_conn {
    bt_server *server;
    bt_conn *prev, *next; // the one whose state has changed last is first
    struct MHD_Connection *mhd;
    bt_call *call; // owned by MHD's con_cls; NULL between requests
    int fd;
    bool watched; // the fd is in the hang-up watch
    bool head;    // a request line has come, of a request that has not ended
    bool served;  // it has had an answer
    bool linger;  // the client may still be sending when it is closed
    bool cut;     // gave way: no longer counted
    bt_conn *next_cut;
    bool proxy;          // a trusted one
    bt_share *share;     // the peer's address
    int32_t limit;       // of connections of that share
    int64_t deadline_ns; // the socket is shut down at it; 0 = none
    bt_framing framing;
    bool refused; // intake.c has answered: nothing more is said
    char peer[64];
};

typedef enum bt_stage {
    BT_STAGE_READ,    // head and body are coming
    BT_STAGE_WORK,    // lent to another thread
    BT_STAGE_WAIT,    // generation: no status line yet
    BT_STAGE_STREAM,  // generation: the body is going out
    BT_STAGE_REPLIED, // a whole response is queued
} bt_stage;

/* One front request of a generation. */
typedef struct bt_leg {
    bt_call *call;
    int32_t part;
    bool ended;        // its last event was taken
    bt_stream *stream; // owned: one reference
} bt_leg;

struct bt_call {
    bt_conn *conn;
    const bt_route *route;
    const bt_dialect *dialect; // of its path; NULL: none
    const char *tail; // owned; what follows a prefix route's path, or NULL
    bt_stage stage;
    bool head, discard, parked, gone, close_after;
    bool readable; // for the page of another origin that asked
    char id[24];
    bt_identity who;
    double lease_header_s; // X-Baton-Lease, 0 = none
    bt_buf body;           // the request's
    size_t body_held;      // what of it the budget knows
    size_t dropped;        // bytes of a body that nobody wants
    int64_t begun_ns;      // the head was here
    bt_share *share;       // the account's, while a body or a place is held of it; or NULL
    bool counted;          // its share counts the request

    int status; // of the reply; 0 = none yet
    bt_buf reply;
    const char *type;
    bt_header header[BT_HEADERS_MAX];
    int32_t n_headers;

    bt_work work;  // where it is lent as text work
    bt_text *text; // while that runs

    bool parsed; // req is filled: a generation to submit
    bt_api_request req;
    bt_unit *unit; // of a generation: whose model answers
    bt_answer *answer;
    bt_leg *leg; // owned [n_legs]
    int32_t n_legs;
    bt_buf out; // SSE bytes not yet taken by the socket
    size_t out_at;
    int64_t sent_ns;
    bt_call *next_done; // guarded by server->mu
};

typedef enum bt_need { BT_NEED_NOTHING, BT_NEED_IDENTITY, BT_NEED_OWNER } bt_need;

/* Where a route's handler runs. */
typedef enum bt_where {
    BT_ON_LOOP,   // answers from memory, within microseconds
    BT_ON_TEXT,   // is text work of its account
    BT_ON_HELPER, // may wait for the ledger or be long, unless at_once() has the answer
} bt_where;

struct bt_route {
    const char *method, *path;
    bool prefix; // path is a beginning; the rest is call->tail
    bt_need need;
    bt_where where;
    const bt_dialect *dialect;   // of what it says; NULL: Baton's own
    bool generates;              // its handler parses; a large body is text work
    bool (*at_once)(bt_call *c); // on the loop: true if it has filled the reply
    void (*handle)(bt_call *c); // fills the reply; or, if it generates, req
};

typedef struct bt_counters {
    atomic_llong gave_way, turned_away; // connections
    atomic_llong body_bytes;
    atomic_llong connections, requests, hangups, timeouts, streams;
    atomic_llong by_class[6]; // answers by hundreds of the status code
} bt_counters;

struct bt_server {
    bt_front *front;
    bt_server_options opt;
    uint16_t port;
    bool loopback; // listens for this machine only
    bt_origins origins;
    struct MHD_Daemon *daemon;
    int listen_fd, watch_fd, event_fd;
    pthread_t loop, helper;
    bool loop_started, helper_started;
    atomic_bool stop;
    int32_t drain_ms;
    bt_counters count;

    pthread_mutex_t mu; // guards the four below; nothing is called under it
    uint64_t *ready;    // owned: ids of streams with events
    size_t n_ready, cap_ready;
    bool ready_lost; // out of memory for an id: look at every stream
    bt_call *done;   // calls that were lent and come back

    bt_inbox work; // bt_call * for the helper

    /* loop thread only */
    bt_conn *conns, *last_conn;
    int32_t n_conns, n_idle; // that were not cut
    bt_conn *cuts;           // whose sockets are to be shut down
    bt_budget budget;
    bt_linger linger;
    bt_proxies near; // private addresses: peers that may be a proxy of many
    uint64_t seed;   // of the shares' keys
    bt_map by_fd; // socket -> bt_conn *
    bt_map legs;  // stream id -> bt_leg *
    uint64_t *drained;
    size_t cap_drained;
    bool resumed;
};

static inline const char *bt__head_value(const bt_call *c, const char *name)
{
    return MHD_lookup_connection_value(c->conn->mhd, MHD_HEADER_KIND, name);
}

/* The body as an object, in an arena that is the caller's to release, whatever comes of it. */
static inline bt_status bt__call_object(const bt_call *c, bt_arena *arena, const bt_json **root,
                                        bt_err *err)
{
    bt_arena_init(arena, bt_json_room(c->body.len));
    bt_status st = bt_json_parse(c->body.data ? c->body.data : "", c->body.len, arena, root, err);
    if (st == BT_OK && !bt_json_is(*root, BT_JSON_OBJECT))
        st = bt_err_set(err, BT_EINVAL, 0, "the request body must be a JSON object");
    return st;
}

/* reply.c */
void bt__call_fail(bt_call *c, bt_status st, const char *message, const char *param,
                   const char *code);
void bt__call_error(bt_call *c, const bt_err *err);
void bt__call_header(bt_call *c, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void bt__call_header_static(bt_call *c, const char *name, const char *text);
void bt__call_json(bt_call *c, int status); // the reply buffer holds JSON
void bt__call_quota_headers(bt_call *c, const bt_ledger_balance *balance);
/* The headers of a refusal for quota; retry_ms 0 = when the window ends. */
void bt__call_quota_refused(bt_call *c, const bt_ledger_balance *balance, int64_t retry_ms);
enum MHD_Result bt__call_send(bt_call *c); // queues the reply
/* Ends the connection before the request has come whole: with the reply, or a 408 without one. */
void bt__call_cut(bt_call *c);
enum MHD_Result bt__call_stream(bt_call *c, MHD_ContentReaderCallback reader); // queues a stream
void bt__call_park(bt_call *c);
void bt__call_unpark(bt_call *c);
void bt__call_watch(bt_call *c); // wants to know when the client hangs up

/* gate.c: each fills the reply where it refuses */
void bt__gate_caller(bt_call *c); // who it is, and whether the route is open to them
void bt__gate_page(bt_call *c, const char *target); // then: whether the page that asks may
void bt__gate_preflight(bt_call *c, const char *target, const char *methods);
bool bt__gate_by_owner(bt_call *c); // on a route that asks nobody who they are

/* lend.c */
void bt__server_ready(bt_server *s, uint64_t id); // a stream has events. Thread: any
void bt__server_done(bt_call *c); // gives back what was lent. Thread: any, the last that has it
/* Gives the call to another thread; its connection is parked meanwhile. */
bt_status bt__call_lend(bt_call *c, bt_err *err);
void bt__call_hangup(bt_call *c); // its client is gone

/* call.c */
enum MHD_Result bt__call_serve(void *cls, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *n_data, void **con_cls);
void bt__call_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                        enum MHD_RequestTerminationCode why);
void bt__call_worked(bt_call *c); // a thread gave back what it was lent

/* intake.c */
void bt__intake_begin(bt_server *s); // this is its loop thread
void bt__intake_completed(bt_conn *conn);
void bt__intake_tick(bt_conn *conn); // answers what was refused behind other requests

/* generate.c */
void bt__generate_parse(bt_call *c);
/* Submits what was parsed and parks, or fills the reply. */
void bt__generate_start(bt_call *c);
void bt__generate_ready(bt_call *c); // a stream of it may have events
/* After a resume in stage WAIT: queues the response. */
enum MHD_Result bt__generate_respond(bt_call *c);
void bt__generate_beat(bt_call *c, int64_t now_ns);
void bt__generate_cancel(bt_call *c);
void bt__generate_release(bt_call *c);

/* engines.c */
void bt__engines_list(bt_call *c);
void bt__engines_change(bt_call *c);

/* routes.c */
/* NULL: nothing there, or (methods not empty) not for this method. */
const bt_route *bt__route_find(const char *method, const char *path, const char **tail,
                               char methods[static 64]);
/* The path in a target: some clients and proxies send the whole URL. */
const char *bt__route_path(const char *target);
/* What is spoken at a path, whatever the method; NULL: Baton's own. */
const bt_dialect *bt__route_dialect(const char *path);

/* conn.c */
void bt__conn_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                     enum MHD_ConnectionNotificationCode what);
void *bt__conn_head(void *cls, const char *uri, struct MHD_Connection *mhd); // a request line came
void bt__conn_state(bt_conn *conn, bt_call *call); // a request has begun, or (NULL) has ended
void bt__conn_late(bt_conn *conn);                 // its deadline has passed
/* In the words of HTTP, on the socket itself: MHD has no request to answer. */
void bt__conn_refuse(bt_conn *conn, bt_status st, const char *code, const char *message);
void bt__conns_cut(bt_server *s); // shuts down what gave way. Not inside MHD_run()
