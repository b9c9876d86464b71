/* As much of HTTP/2 and gRPC as a load generator needs: windows that no answer fills are announced, and a header table of
   no size, so that the names of headers come in full. Whoever includes it defines what becomes of calls: on_message,
   which says whether more may come, and on_end. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WINDOW 0x40000000u
#define CANCELLED 1
#define UNKNOWN 2
#define DEADLINE_EXCEEDED 4
#define RESOURCE_EXHAUSTED 8
#define UNAVAILABLE 14

typedef struct {
    uint8_t *at;
    size_t used, room;
} Buffer;

/* What is known of one open call. `got` counts bytes of the current message, 5 bytes of its head included. */
typedef struct {
    int64_t start;
    uint32_t id, number, size, got;
    uint8_t head[5];
    uint8_t open, told;
} Flow;

typedef struct {
    int fd;
    Buffer in, out;
    uint32_t next_id, eaten;
    int under_way, writing, dead;
    Flow *flows;
    uint32_t flow_mask;
} Link;

static Buffer head;
static Link *links;
static int link_count, poller;

static int on_message(Flow *f, int64_t at);
static void on_end(Link *l, Flow *f, int code, int64_t when);

static void die(const char *what) {
    fprintf(stderr, "caller: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void add(Buffer *b, const void *bytes, size_t size) {
    if (b->used + size > b->room) {
        b->room = (b->used + size) * 2 + 256;
        if (!(b->at = realloc(b->at, b->room))) die("memory");
    }
    memcpy(b->at + b->used, bytes, size);
    b->used += size;
}

static void add_frame(Buffer *b, uint32_t size, uint8_t type, uint8_t flags, uint32_t id) {
    uint8_t f[9] = {size >> 16, size >> 8, size, type, flags, id >> 24, id >> 16, id >> 8, id};
    add(b, f, 9);
}

static void add_u32(Buffer *b, uint32_t v) {
    uint8_t f[4] = {v >> 24, v >> 16, v >> 8, v};
    add(b, f, 4);
}

static void add_text(Buffer *b, const char *text) {
    uint8_t size = strlen(text);
    if (size > 126) errno = EINVAL, die("a header of more than 126 bytes");
    add(b, &size, 1);
    add(b, text, size);
}

/* The request's headers as HPACK literals that touch no table. TIMEOUT is in milliseconds; 0: none. */
static void make_head(const char *path, const char *authority, int timeout) {
    add(&head, "\x83\x86\x04", 3);
    add_text(&head, path);
    add(&head, "\x01", 1);
    add_text(&head, authority);
    add(&head, "\x0f\x10", 2);
    add_text(&head, "application/grpc");
    add(&head, "\x00", 1);
    add_text(&head, "te");
    add_text(&head, "trailers");
    if (timeout) {
        char text[32];
        snprintf(text, sizeof text, "%dm", timeout);
        add(&head, "\x00", 1);
        add_text(&head, "grpc-timeout");
        add_text(&head, text);
    }
}

/* One digit in Huffman's code of HPACK: 0 to 2 have five bits, 3 to 9 six. */
static int digit(uint32_t bits, int *at) {
    int five = bits >> (27 - *at) & 31, six = bits >> (26 - *at) & 63;
    *at += five < 3 ? 5 : 6;
    return five < 3 ? five : six - 0x19 + 3;
}

/* The gRPC status in a block of headers; -1 when there is none. With no table the name stands there in full. */
static int status(const uint8_t *at, uint32_t size) {
    static const uint8_t plain[] = "\x0bgrpc-status", coded[] = "\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f";
    const uint8_t *name = memmem(at, size, plain, sizeof plain - 1), *value = name + sizeof plain - 1;
    if (!name) {
        name = memmem(at, size, coded, sizeof coded - 1);
        value = name + sizeof coded - 1;
    }
    if (!name || value >= at + size) return -1;
    uint32_t length = value[0] & 0x7f;
    if (!length || length > 2 || value + length >= at + size) return UNKNOWN;
    if (!(value[0] & 0x80)) return length == 1 ? value[1] - '0' : (value[1] - '0') * 10 + value[2] - '0';
    uint32_t bits = (uint32_t)value[1] << 24 | (length > 1 ? value[2] << 16 : 0);
    int used = 0, found = digit(bits, &used);
    return length == 1 ? found : found * 10 + digit(bits, &used);
}

static void flush(Link *l) {
    size_t sent = 0;
    while (sent < l->out.used) {
        ssize_t n = send(l->fd, l->out.at + sent, l->out.used - sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) break;
            l->dead = 1;
            return;
        }
        sent += n;
    }
    memmove(l->out.at, l->out.at + sent, l->out.used - sent);
    l->out.used -= sent;
    int writing = l->out.used > 0;
    if (writing != l->writing) {
        struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = l};
        epoll_ctl(poller, EPOLL_CTL_MOD, l->fd, &e);
        l->writing = writing;
    }
}

/* Connect; a link that was lost is opened anew. */
static void open_link(Link *l, const char *host, int port, uint32_t flows) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) errno = EINVAL, die(host);
    if (l->dead) close(l->fd);
    free(l->in.at), free(l->out.at), free(l->flows);
    memset(l, 0, sizeof *l);
    l->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (l->fd < 0 || connect(l->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(l->fd, F_SETFL, O_NONBLOCK);
    l->next_id = 1;
    l->flow_mask = flows - 1;
    if (!(l->flows = calloc(flows, sizeof(Flow)))) die("memory");
    add(&l->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    add_frame(&l->out, 12, 4, 0, 0);
    add(&l->out, "\x00\x01", 2), add_u32(&l->out, 0);          /* header table */
    add(&l->out, "\x00\x04", 2), add_u32(&l->out, 0x7fffffff); /* window of a stream */
    add_frame(&l->out, 4, 8, 0, 0);
    add_u32(&l->out, WINDOW);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, l->fd, &e)) die("epoll");
}

/* Begin the call of a number with a request, and return its stream's id. */
static uint32_t begin(Link *l, uint32_t number, const uint8_t *body, uint32_t size, int64_t start) {
    uint32_t id = l->next_id;
    Flow *f = &l->flows[(id >> 1) & l->flow_mask];
    if (f->open) errno = EOVERFLOW, die("too many calls under way");
    l->next_id += 2;
    *f = (Flow){.start = start, .id = id, .number = number, .open = 1};
    add_frame(&l->out, head.used, 1, 4, id);
    add(&l->out, head.at, head.used);
    add_frame(&l->out, size + 5, 0, 1, id);
    uint8_t zero = 0;
    add(&l->out, &zero, 1);
    add_u32(&l->out, size);
    add(&l->out, body, size);
    l->under_way++;
    return id;
}

static void data(Flow *f, const uint8_t *at, uint32_t size, int64_t when) {
    while (size) {
        if (f->got < 5) {
            f->head[f->got++] = *at++;
            size--;
            if (f->got < 5) continue;
            f->size = (uint32_t)f->head[1] << 24 | f->head[2] << 16 | f->head[3] << 8 | f->head[4];
        } else {
            uint32_t left = f->size + 5 - f->got, take = left < size ? left : size;
            f->got += take, at += take, size -= take;
        }
        if (f->got == f->size + 5) {
            if (on_message(f, when)) f->got = 0;
        }
    }
}

static void frame(Link *l, uint8_t type, uint8_t flags, uint32_t id, const uint8_t *at, uint32_t size, int64_t when) {
    Flow *f = &l->flows[(id >> 1) & l->flow_mask];
    int known = f->open && f->id == id;
    switch (type) {
    case 0:
        l->eaten += size;
        if (known) {
            if (flags & 8 && size) data(f, at + 1, size - 1 - at[0], when);
            else data(f, at, size, when);
            if (flags & 1) on_end(l, f, UNKNOWN, when);
        }
        if (l->eaten > WINDOW / 4) {
            add_frame(&l->out, 4, 8, 0, 0);
            add_u32(&l->out, l->eaten);
            l->eaten = 0;
        }
        break;
    case 1:
        if (known && flags & 1) {
            int code = status(at, size);
            on_end(l, f, code < 0 || (!code && f->got < 5) ? UNKNOWN : code, when);
        }
        break;
    case 3:
        if (known) on_end(l, f, UNKNOWN, when);
        break;
    case 4:
        if (!(flags & 1)) add_frame(&l->out, 0, 4, 1, 0);
        break;
    case 6:
        if (!(flags & 1)) {
            add_frame(&l->out, 8, 6, 1, 0);
            add(&l->out, at, 8);
        }
        break;
    }
}

static void hear(Link *l) {
    for (;;) {
        if (l->in.room - l->in.used < 65536) {
            l->in.room += 262144;
            if (!(l->in.at = realloc(l->in.at, l->in.room))) die("memory");
        }
        size_t room = l->in.room - l->in.used;
        ssize_t n = recv(l->fd, l->in.at + l->in.used, room, 0);
        if (n <= 0) {
            if (n < 0 && errno == EAGAIN) return;
            l->dead = 1;
            return;
        }
        l->in.used += n;
        int64_t when = now();
        size_t done = 0;
        while (l->in.used - done >= 9) {
            const uint8_t *h = l->in.at + done;
            uint32_t size = (uint32_t)h[0] << 16 | h[1] << 8 | h[2];
            if (l->in.used - done < 9 + size) break;
            uint32_t id = ((uint32_t)h[5] << 24 | h[6] << 16 | h[7] << 8 | h[8]) & 0x7fffffff;
            frame(l, h[3], h[4], id, h + 9, size, when);
            done += 9 + size;
        }
        memmove(l->in.at, l->in.at + done, l->in.used - done);
        l->in.used -= done;
        if ((size_t)n < room) return;
    }
}

static void turn(int timeout) {
    struct epoll_event found[256];
    int n = epoll_wait(poller, found, 256, timeout);
    for (int i = 0; i < n; i++) {
        Link *l = found[i].data.ptr;
        if (!l || l->dead) continue;
        if (found[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) hear(l);
        if (!l->dead && l->out.used) flush(l);
        if (!l->dead) continue;
        epoll_ctl(poller, EPOLL_CTL_DEL, l->fd, NULL);
        int64_t when = now();
        for (uint32_t at = 0; at <= l->flow_mask; at++)
            if (l->flows[at].open) on_end(l, &l->flows[at], UNAVAILABLE, when);
    }
}

