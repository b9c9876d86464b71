/* A gRPC load generator in raw HTTP/2 frames: unary calls in a closed or an open loop, or many open streams.

   caller calls   HOST PORT PATH BODIES SECONDS CONNECTIONS IN_FLIGHT RATE LEAST SEED LEAVE TELL RECORD
   caller streams HOST PORT PATH BODIES COUNT CONNECTIONS SPREAD LEAST PATIENCE

   BODIES is a file of requests, each after its length (u32, little-endian). `calls` takes a random one for each call,
   `streams` the next one for each stream. An answer or message of less than LEAST bytes is short.

   calls: RATE 0 keeps IN_FLIGHT calls going (closed loop). RATE > 0 begins calls at random times (Poisson) of that many
   per second, whether answers came or not, and counts each from the time it was due (open loop). The first fifth of
   SECONDS is not counted. With LEAVE > 0 a call without an answer after so many milliseconds is left by resetting it;
   with TELL the server is told so in grpc-timeout. Prints one JSON object: calls/s and latencies of the calls that
   ended well, how many did not (`failed`) and of these with RESOURCE_EXHAUSTED (`refused`), how many had no end, how
   often a connection was lost and made again, and seconds of the processor that this program took. RECORD, if not -, is a file that gets (i64 nanoseconds of
   CLOCK_MONOTONIC when it was due, f32 milliseconds, i32 gRPC code) of each call that ended, counted or not.

   streams: opens COUNT streams, at random times within SPREAD seconds, and prints a JSON line when each had its first
   message, was refused, or PATIENCE seconds passed. Then, for each line "N FILE" on standard input, waits for N messages
   that are not short, writes (u32 stream, u32 size, i64 nanoseconds of CLOCK_MONOTONIC) of each into FILE, and prints a
   JSON line. Ends with its input. */
#include "http2.h"

#define RING 65536

/* When a call is to be left. */
typedef struct {
    int64_t at;
    uint32_t link, id;
} Leave;

/* What came of a call. */
typedef struct {
    int64_t start;
    float took;
    int32_t code;
} Ended;

typedef struct {
    uint32_t stream, size;
    int64_t at;
} Receipt;

static uint8_t **bodies;
static uint32_t *body_sizes, body_count;
static uint32_t least;
static uint64_t state = 88172645463325252ull;

static int streaming;
static double *latencies;
static size_t latency_count, latency_room;
static uint64_t short_answers, failed, refusals;
static Leave *leaves;
static size_t leave_first, leave_count, leave_room;
static int64_t leave_after;
static int leave_code;
static Ended *ended;
static size_t ended_count, ended_room;
static int64_t count_from;
static uint32_t first_told, refused;
static Receipt *receipts;
static size_t receipt_count, receipt_room;

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 2685821657736338717ull;
}

static double chance(void) { return ((draw() >> 11) + 0.5) / 9007199254740992.0; }

static void read_bodies(const char *name) {
    FILE *f = fopen(name, "rb");
    uint32_t size, room = 0;
    if (!f) die(name);
    while (fread(&size, 4, 1, f) == 1) {
        if (body_count == room) {
            room = room * 2 + 1024;
            bodies = realloc(bodies, room * sizeof *bodies);
            body_sizes = realloc(body_sizes, room * sizeof *body_sizes);
            if (!bodies || !body_sizes) die("memory");
        }
        bodies[body_count] = malloc(size + 1);
        if (!bodies[body_count] || fread(bodies[body_count], 1, size, f) != size) die(name);
        body_sizes[body_count++] = size;
    }
    fclose(f);
    if (!body_count) errno = EINVAL, die(name);
}

static int on_message(Flow *f, int64_t at) {
    if (!streaming) return 0;
    if (!f->told) {
        f->told = 1;
        first_told++;
    } else if (f->size >= least) {
        if (receipt_count == receipt_room) {
            receipt_room = receipt_room * 2 + 65536;
            if (!(receipts = realloc(receipts, receipt_room * sizeof *receipts))) die("memory");
        }
        receipts[receipt_count++] = (Receipt){f->number, f->size, at};
    }
    return 1;
}

static void on_end(Link *l, Flow *f, int code, int64_t when) {
    f->open = 0;
    l->under_way--;
    if (streaming) {
        refused += !f->told;
        return;
    }
    if (ended_room) {
        if (ended_count == ended_room && !(ended = realloc(ended, (ended_room *= 2) * sizeof *ended))) die("memory");
        ended[ended_count++] = (Ended){f->start, (when - f->start) / 1e6, code};
    }
    if (f->start < count_from) return;
    if (code) {
        failed++;
        refusals += code == RESOURCE_EXHAUSTED;
        return;
    }
    short_answers += f->size < least;
    if (latency_count == latency_room) {
        latency_room = latency_room * 2 + 65536;
        if (!(latencies = realloc(latencies, latency_room * sizeof *latencies))) die("memory");
    }
    latencies[latency_count++] = (when - f->start) / 1e6;
}

/* Call with a random request, due at a time. */
static void call(Link *l, int64_t due) {
    uint32_t body = draw() % body_count, id = begin(l, 0, bodies[body], body_sizes[body], due);
    if (!leave_after) return;
    if (leave_count == leave_room) {
        /* Calls are left in the order they began, so what is past is at the front. */
        memmove(leaves, leaves + leave_first, (leave_count -= leave_first) * sizeof *leaves);
        leave_first = 0;
        if (leave_count * 2 >= leave_room) leave_room = leave_room * 2 + 65536;
        if (!(leaves = realloc(leaves, leave_room * sizeof *leaves))) die("memory");
    }
    leaves[leave_count++] = (Leave){due + leave_after, l - links, id};
}

/* Leave the calls whose time is over. */
static void leave(int64_t when) {
    for (; leave_first < leave_count && leaves[leave_first].at <= when; leave_first++) {
        Link *l = &links[leaves[leave_first].link];
        uint32_t id = leaves[leave_first].id;
        Flow *f = &l->flows[(id >> 1) & l->flow_mask];
        if (l->dead || !f->open || f->id != id) continue;
        add_frame(&l->out, 4, 3, 0, id);
        add_u32(&l->out, 8);
        on_end(l, f, leave_code, when);
    }
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double q) { return latency_count ? latencies[(size_t)((latency_count - 1) * q)] : 0.0; }

static int calls(char **a, uint32_t flows) {
    uint64_t lost = 0;
    double seconds = atof(a[4]), rate = atof(a[7]);
    int in_flight = atoi(a[6]), at = 0;
    state += strtoull(a[9], NULL, 10) * 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < 20; i++) draw();
    int64_t start = now(), stop = start + (int64_t)(seconds * 1e9), due = start;
    count_from = start + (int64_t)(seconds * 0.2e9);
    for (int64_t t; (t = now()) < stop;) {
        if (rate > 0) {
            for (; due <= t; due += (int64_t)(-log(chance()) / rate * 1e9)) {
                Link *l = &links[at++ % link_count];
                if (!l->dead) call(l, due);
            }
        } else {
            for (int i = 0; i < link_count; i++) {
                int most = in_flight / link_count + (i < in_flight % link_count);
                while (!links[i].dead && links[i].under_way < most) call(&links[i], now());
            }
        }
        leave(t);
        for (int i = 0; i < link_count; i++) {
            if (links[i].dead) {
                open_link(&links[i], a[0], atoi(a[1]), flows);
                lost++;
            }
            if (links[i].out.used && !links[i].writing) flush(&links[i]);
        }
        turn((rate > 0 && due - now() < 2000000) || (leave_after && leave_after < 10000000) ? 0 : 1);
    }
    int64_t took = stop - count_from;
    uint64_t under_way = 0;
    for (int i = 0; i < link_count; i++) under_way += links[i].under_way;
    qsort(latencies, latency_count, sizeof *latencies, by_size);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    if (ended_room) {
        FILE *f = fopen(a[12], "wb");
        if (!f || fwrite(ended, sizeof *ended, ended_count, f) != ended_count || fclose(f)) die(a[12]);
    }
    printf("{\"calls_per_second\": %.1f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"short_answers\": %llu, \"failed\": %llu, "
           "\"refused\": %llu, \"unanswered\": %llu, \"connections_lost\": %llu, \"cpu_seconds\": %.3f}\n",
           latency_count / (took / 1e9), quantile(0.5), quantile(0.99), (unsigned long long)short_answers,
           (unsigned long long)failed, (unsigned long long)refusals, (unsigned long long)under_way,
           (unsigned long long)lost, cpu);
    return 0;
}

static int streams(char **a) {
    uint32_t count = atoi(a[4]), opened = 0;
    double spread = atof(a[6]), patience = atof(a[8]);
    int64_t start = now(), limit = start + (int64_t)((spread + patience) * 1e9);
    streaming = 1;
    while (first_told + refused < count && now() < limit) {
        /* Those that come within SPREAD are as many a second; they come in the order of their numbers. */
        double part = spread > 0 ? (now() - start) / (spread * 1e9) : 1.0;
        uint32_t until = part >= 1.0 ? count : (uint32_t)(part * count);
        for (; opened < until; opened++) {
            Link *l = &links[opened % link_count];
            if (l->dead) refused++;
            else begin(l, opened, bodies[opened % body_count], body_sizes[opened % body_count], now());
        }
        for (int i = 0; i < link_count; i++)
            if (!links[i].dead && links[i].out.used && !links[i].writing) flush(&links[i]);
        turn(1);
    }
    printf("{\"open\": %u, \"refused\": %u, \"silent\": %u, \"seconds\": %.3f}\n", first_told, refused,
           count - first_told - refused, (now() - start) / 1e9);
    fflush(stdout);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &e);
    fcntl(0, F_SETFL, O_NONBLOCK);
    char line[4096];
    size_t used = 0, wanted = 0;
    char file[4096] = "";
    int64_t until = 0;
    for (;;) {
        ssize_t n = read(0, line + used, sizeof line - 1 - used);
        if (n == 0) return 0;
        if (n > 0) {
            used += n;
            line[used] = 0;
            if (!strchr(line, '\n')) continue;
            if (sscanf(line, "%zu %4095s", &wanted, file) != 2) errno = EINVAL, die("input");
            used = 0;
            until = now() + (int64_t)(patience * 1e9);
            printf("{\"waiting\": %zu}\n", wanted);
            fflush(stdout);
        }
        turn(10);
        if (wanted && (receipt_count >= wanted || now() >= until)) {
            FILE *f = fopen(file, "wb");
            if (!f || fwrite(receipts, sizeof *receipts, receipt_count, f) != receipt_count) die(file);
            fclose(f);
            printf("{\"received\": %zu}\n", receipt_count);
            fflush(stdout);
            receipt_count = wanted = 0;
        }
    }
}

int main(int argc, char **argv) {
    int calling = argc == 15 && !strcmp(argv[1], "calls");
    if (!calling && !(argc == 11 && !strcmp(argv[1], "streams"))) {
        fprintf(stderr, "caller calls HOST PORT PATH BODIES SECONDS CONNECTIONS IN_FLIGHT RATE LEAST SEED LEAVE "
                        "TELL RECORD\n"
                        "caller streams HOST PORT PATH BODIES COUNT CONNECTIONS SPREAD LEAST PATIENCE\n");
        return 2;
    }
    char **a = argv + 2, authority[128];
    snprintf(authority, sizeof authority, "%s:%s", a[0], a[1]);
    if (calling) {
        leave_after = (int64_t)(atof(a[10]) * 1e6);
        leave_code = atoi(a[11]) ? DEADLINE_EXCEEDED : CANCELLED;
        ended_room = strcmp(a[12], "-") ? 65536 : 0;
        if (ended_room && !(ended = malloc(ended_room * sizeof *ended))) die("memory");
    }
    make_head(a[2], authority, calling && atoi(a[11]) ? atoi(a[10]) : 0);
    read_bodies(a[3]);
    link_count = atoi(a[5]);
    least = atoi(a[calling ? 8 : 7]);
    uint32_t flows = RING;
    for (; calling && flows > 1024 && flows * (uint64_t)link_count > 64 * RING; flows /= 2) {}
    if (!calling)
        for (flows = 2; flows < (uint32_t)atoi(a[4]) / link_count + 2; flows *= 2) {}
    poller = epoll_create1(0);
    if (!(links = calloc(link_count, sizeof *links))) die("memory");
    for (int i = 0; i < link_count; i++) open_link(&links[i], a[0], atoi(a[1]), flows);
    return calling ? calls(a, flows) : streams(a);
}
