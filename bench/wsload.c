/* wsload: run.py's load generator, for a chat server at ws://127.0.0.1:PORT/ws.
 *
 *     cc -O2 -o wsload wsload.c
 *     ./wsload -p 8080 -n 100 -s 4 -t 5
 *
 * One thread drives all clients, with epoll. The output is one line of JSON. If something fails,
 * wsload prints a line on stderr and exits with status 1. A run has these steps:
 *
 *   1. All clients connect. Then the first client sends a short message, a call, again and again,
 *      until every client has received one. The handshake alone is not enough, because a server may
 *      accept it before the client is in the room.
 *   2. With -k, wsload measures the server's memory. With -c, all clients disconnect and reconnect.
 *   3. The clients send for -u seconds to warm up, and then for -t seconds that are measured. With
 *      -z, some clients stop reading after the warm-up, but keep their connections open.
 *
 * A message is "TIME SENDER xxx...": when it was due, in nanoseconds, and its sender's number, both
 * hexadecimal. Without -r, each sender keeps WINDOW messages in flight: whenever one comes back,
 * the sender sends another. With -r, messages are due at a fixed rate. Latency counts from the time
 * when a message was due, so a stall shows in every message that it delays.
 *
 * A server may join messages with newlines and send them in one frame. It may also split a frame
 * into fragments, as the Go example does after every 1,024 bytes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    STAMPED = 24,        /* bytes before a message's padding */
    LARGEST = 512,       /* the chat's limit for a message, in bytes */
    WINDOW = 4,          /* messages that a sender keeps in flight */
    BUFFER = 1 << 18,    /* bytes per read; also the largest frame */
    PER_ADDRESS = 2000,  /* clients per source address; each address has 28,000 ports */
    AT_ONCE = 100,       /* maximum number of handshakes in progress, except with -c */
    BUCKETS = 57 * 256,  /* number of buckets in the histogram */
};
#define SECOND 1000000000ull
#define PATIENCE (120 * SECOND) /* time for all clients to connect and receive a call */

typedef struct {
    enum { CLOSED, CONNECTING, SHAKING, OPEN } state;
    int fd;
    int present;         /* whether the client has received a call since it connected */
    int in_flight;       /* messages that the client has sent and not yet received */
    unsigned char *rest; /* the beginning of an incomplete frame or handshake answer */
    size_t have;         /* the size of `rest` */
    unsigned char *line; /* the beginning of a message that continues in the next fragment */
    size_t length;       /* the size of `line` */
} Client;

static Client *clients;
static int epoll, port, total = 100, senders = 4, size_of_message = 64;
/* The numbers of clients that are in a handshake, are connected, and have received a call. */
static int pending, alive, present;
/* The reason for the latest failure to connect; empty if there was none. */
static char refused[200];
/* With -f, a client that cannot connect ends step 1, but not the run. */
static int fewer;

/* The counters. `measuring` is set after the warm-up, at the time `begin`. */
static int measuring, dropped;
static uint64_t begin, sent, deliveries, longest, histogram[BUCKETS];

static void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t now_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

/* A histogram of latencies. Rounding changes a latency by at most 1/512. */

static void record(uint64_t value) {
    int shift = value < 512 ? 0 : 55 - __builtin_clzll(value);
    histogram[shift * 256 + (value >> shift)]++;
    if (value > longest) longest = value;
}

/* Print a percentile in milliseconds, or null if there are no latencies. */
static void print_percentile(const char *name, double percent) {
    uint64_t samples = 0, left;
    for (int i = 0; i < BUCKETS; i++) samples += histogram[i];
    left = samples * percent / 100;
    for (int i = 0; i < BUCKETS; i++) {
        int shift = i < 512 ? 0 : i / 256 - 1;
        if (histogram[i] > left) {
            double value = (uint64_t)(i - shift * 256) << shift;
            printf(", \"%s\": %.4f", name, (value + (1ull << shift >> 1)) / 1e6);
            return;
        }
        left -= histogram[i];
    }
    printf(", \"%s\": null", name);
}

/* The server's memory, in KB, and its processor time, in seconds. Both are 0 if unknown. */

static double memory_of(int pid) {
    char path[64], line[256];
    long kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file) && sscanf(line, "VmRSS: %ld", &kb) != 1) continue;
    fclose(file);
    return kb;
}

static double cpu_of(int pid) {
    char path[64], line[1024] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    char *end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    if (end) sscanf(end, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

/* Connections. */

static void drop(Client *c, const char *why) {
    if (c->state == OPEN) {
        alive--;
        present -= c->present;
        dropped++;
    } else {
        pending--;
        snprintf(refused, sizeof refused, "%s", why);
    }
    close(c->fd);
    c->state = CLOSED;
}

static void watch(Client *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

static void start(Client *c) {
    const int one = 1;
    int number = c - clients;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)}, from = to;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    from.sin_port = 0;
    from.sin_addr.s_addr = htonl((127 << 24) + ((1 + number / PER_ADDRESS) << 8) + 1);
    c->state = CONNECTING;
    c->present = c->in_flight = c->have = c->length = 0;
    pending++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) {
        drop(c, errno == EMFILE ? "the generator is out of descriptors" : strerror(errno));
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* Makes the system choose the local port in connect, where it may reuse a port. */
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from) ||
        (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)) {
        drop(c, strerror(errno));
        return;
    }
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void shake_hands(Client *c) {
    char request[512];
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    int size = snprintf(
        request, sizeof request,
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nOrigin: http://127.0.0.1:%d\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", port, port);
    if (error || send(c->fd, request, size, MSG_NOSIGNAL) != size) {
        drop(c, strerror(error ? error : errno));
        return;
    }
    c->state = SHAKING;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

/* Handle the answer to a handshake. Return its size, or 0 if it is incomplete or a refusal. */
static size_t answer(Client *c, const unsigned char *data, size_t size) {
    const unsigned char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (size < 12 || memcmp(data + 8, " 101", 4)) {
        char line[100];
        const unsigned char *stop = memchr(data, '\r', size);
        snprintf(line, sizeof line, "%.*s", (int)(stop - data), data);
        for (char *p = line; *p; p++)
            if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\') *p = '?';
        drop(c, line);
        return 0;
    }
    c->state = OPEN;
    pending--;
    alive++;
    return end + 4 - data;
}

/* Messages. */

/* Send a message, or drop the client on failure. The socket always has room for so few bytes. */
static void send_text(Client *c, const char *text, int size) {
    unsigned char frame[8 + LARGEST] = {0x81}; /* with a masking key of zeros */
    int head = 2;
    if (size < 126) frame[1] = 0x80 | size;
    else {
        frame[1] = 0x80 | 126;
        frame[2] = size >> 8;
        frame[3] = size;
        head = 4;
    }
    memcpy(frame + head + 4, text, size);
    size += head + 4;
    if (send(c->fd, frame, size, MSG_NOSIGNAL | MSG_DONTWAIT) != size) drop(c, strerror(errno));
}

static void send_message(Client *c, uint64_t due) {
    char text[LARGEST + 1];
    snprintf(text, sizeof text, "%016llx %06x ", (unsigned long long)due, (unsigned)(c - clients));
    memset(text + STAMPED, 'x', size_of_message - STAMPED);
    send_text(c, text, size_of_message);
    if (measuring) sent++;
}

static uint64_t hexadecimal(const unsigned char *digits, int count) {
    uint64_t value = 0;
    while (count--) {
        value = value << 4 | (*digits <= '9' ? *digits - '0' : *digits - 'a' + 10);
        digits++;
    }
    return value;
}

static void join_line(Client *c, const unsigned char *data, size_t size) {
    if (c->length + size > LARGEST) fail("a message of %zu bytes is too large", c->length + size);
    if (!c->line) c->line = malloc(LARGEST);
    memcpy(c->line + c->length, data, size);
    c->length += size;
}

/* Count a message or a call. now: the time at which it was read. */
static void count(Client *c, const unsigned char *line, size_t size, uint64_t now) {
    if (size && *line == '?') {
        present += !c->present;
        c->present = 1;
    } else if (size >= STAMPED && line[16] == ' ') {
        if (measuring) {
            uint64_t due = hexadecimal(line, 16);
            deliveries++;
            if (due >= begin) record(now - due);
        }
        if (c->in_flight && hexadecimal(line + 17, 6) == (uint64_t)(c - clients)) c->in_flight--;
    }
}

/* Count the messages in a fragment. last: whether it is its frame's last fragment. */
static void text(Client *c, const unsigned char *at, size_t size, int last, uint64_t now) {
    const unsigned char *end = at + size, *stop;
    for (; (stop = memchr(at, '\n', end - at)) || last; at = stop + 1) {
        if (!stop) stop = end;
        if (c->length) {
            join_line(c, at, stop - at);
            count(c, c->line, c->length, now);
            c->length = 0;
        } else {
            count(c, at, stop - at, now);
        }
        if (stop == end) return;
    }
    join_line(c, at, end - at);
}

/* Handle all complete frames and fragments, and return their size. */
static size_t parse(Client *c, const unsigned char *data, size_t size, uint64_t now) {
    size_t done = 0;
    while (size - done >= 2) {
        const unsigned char *frame = data + done;
        size_t left = size - done, head = 2, length = frame[1];
        if (length == 126) {
            head = 4;
            if (left < head) break;
            length = frame[2] << 8 | frame[3];
        } else if (length == 127) {
            head = 10;
            if (left < head) break;
            length = (size_t)frame[6] << 24 | frame[7] << 16 | frame[8] << 8 | frame[9];
        }
        if (head + length > BUFFER) fail("a frame of %zu bytes is too large", length);
        if (left < head + length) break;
        done += head + length;
        switch (frame[0] & 15) {
        case 8:
            drop(c, "");
            return size;
        case 9: {
            unsigned char pong[6 + 125] = {0x8a, 0x80 | length};
            memcpy(pong + 6, frame + head, length);
            send(c->fd, pong, 6 + length, MSG_NOSIGNAL | MSG_DONTWAIT);
            break;
        }
        case 0: case 1: case 2:
            text(c, frame + head, length, frame[0] & 0x80, now);
        }
    }
    return done;
}

static void receive(Client *c) {
    static unsigned char buffer[2 * BUFFER];
    if (c->have) memcpy(buffer, c->rest, c->have);
    ssize_t got = recv(c->fd, buffer + c->have, BUFFER, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        drop(c, got ? strerror(errno) : "the connection was closed without an answer");
        return;
    }
    size_t size = c->have + got, done = 0;
    if (c->state == SHAKING) {
        done = answer(c, buffer, size);
        if (size - done > BUFFER) fail("the answer to a handshake is too large");
    }
    if (c->state == OPEN) done += parse(c, buffer + done, size - done, now_ns());
    c->have = c->state == CLOSED ? 0 : size - done;
    if (c->have) {
        c->rest = realloc(c->rest, c->have);
        memcpy(c->rest, buffer + done, c->have);
    }
}

static void handle_events(int milliseconds) {
    struct epoll_event events[1024];
    int count = epoll_wait(epoll, events, 1024, milliseconds);
    for (int i = 0; i < count; i++) {
        Client *c = events[i].data.ptr;
        if (c->state == CONNECTING) shake_hands(c);
        else receive(c);
    }
}

/* The steps of a run. */

/* Connect clients `first` to `last` - 1, and wait until all have received a call. */
static void join(int first, int last, int at_once) {
    uint64_t until = now_ns() + PATIENCE;
    for (int next = first; pending || (next < last && !*refused);) {
        while (next < last && pending < at_once && !*refused) start(clients + next++);
        handle_events(100);
        if (*refused && !fewer) fail("client %d of %d: %s", alive + 1, last, refused);
        if (now_ns() > until) fail("%d clients got no answer to the handshake", pending);
    }
    for (uint64_t pause = SECOND / 20; present < alive || !alive; pause *= 2) {
        uint64_t next = now_ns() + pause;
        if (next > until || clients[0].state != OPEN)
            fail("%d of %d clients did not receive a message sent to all", alive - present, last);
        send_text(clients, "?", 1);
        while (present < alive && now_ns() < next) handle_events(10);
    }
}

/* Close all connections and reconnect immediately. */
static void cut(void) {
    for (int i = 0; i < total; i++)
        if (clients[i].state == OPEN) close(clients[i].fd);
    alive = present = 0;
    join(0, total, total);
}

/* Return the server's memory, in KB, after a second without messages. */
static double idle_memory(int pid) {
    for (uint64_t until = now_ns() + SECOND; now_ns() < until;) handle_events(100);
    return memory_of(pid);
}

static void send_and_count(double rate, double warmup, double seconds, int stopped, int pid) {
    double cpu = 0;
    uint64_t now = now_ns(), first = now, due = now, turn = 0, own_cpu = 0;
    uint64_t start = now + warmup * SECOND, end = start + seconds * SECOND;
    for (; now < end; now = now_ns()) {
        int wait = 1; /* in milliseconds; short, so that the end is noticed */
        if (!measuring && now >= start) {
            measuring = 1;
            begin = now;
            for (Client *c = clients + total - stopped; c < clients + total; c++)
                if (c->state == OPEN) watch(c, EPOLL_CTL_DEL, 0);
            cpu = cpu_of(pid);
            own_cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
        }
        if (rate) {
            for (; due <= now; due = first + ++turn / rate * SECOND)
                if (clients[turn % senders].state == OPEN)
                    send_message(clients + turn % senders, due);
            wait = (due - now) / 1000000;
        } else {
            for (Client *c = clients; c < clients + senders; c++)
                for (; c->state == OPEN && c->in_flight < WINDOW; c->in_flight++)
                    send_message(c, now_ns());
        }
        handle_events(wait);
        if (!alive) fail("the server has closed all connections");
    }
    double measured = (now - begin) / 1e9;
    cpu = cpu_of(pid) - cpu;
    own_cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID) - own_cpu;
    printf(", \"sent_per_s\": %.2f, \"deliveries_per_s\": %.2f", sent / measured,
           deliveries / measured);
    print_percentile("p50_ms", 50);
    print_percentile("p99_ms", 99);
    printf(", \"max_ms\": %.4f, \"generator_cpu\": %.3f", longest / 1e6, own_cpu / 1e9 / measured);
    if (cpu > 0 && deliveries) printf(", \"cpu_us\": %.4f", cpu / deliveries * 1e6);
}

int main(int argc, char **argv) {
    int option, pid = 0, stopped = 0, first = 0, come_back = 0;
    double rate = 0, seconds = 0, warmup = 1;
    while ((option = getopt(argc, argv, "p:P:n:s:b:r:t:u:z:k:cf")) != -1) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'P': pid = atoi(optarg); break;       /* the server's process id */
        case 'n': total = atoi(optarg); break;     /* clients */
        case 's': senders = atoi(optarg); break;   /* clients that also send */
        case 'b': size_of_message = atoi(optarg); break;
        case 'r': rate = atof(optarg); break;      /* messages per second, from all senders */
        case 't': seconds = atof(optarg); break;
        case 'u': warmup = atof(optarg); break;
        case 'z': stopped = atoi(optarg); break;   /* clients that stop reading */
        case 'k': first = atoi(optarg); break;     /* measure memory beyond this many clients */
        case 'c': come_back = 1; break;            /* measure how long reconnecting takes */
        case 'f': fewer = 1; break;                /* accept that not all clients connect */
        default: return 2;
        }
    if (total < 1 || senders < 1 || senders > total - stopped) fail("wrong numbers of clients");
    if (size_of_message < STAMPED || size_of_message > LARGEST) fail("wrong size of messages");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll = epoll_create1(0);
    clients = calloc(total, sizeof *clients);

    uint64_t time = now_ns();
    double memory = 0;
    if (first) {
        join(0, first, AT_ONCE);
        memory = idle_memory(pid);
    }
    join(first, total, AT_ONCE);
    printf("{\"clients\": %d, \"join_s\": %.3f", alive, (now_ns() - time) / 1e9);
    if (*refused) printf(", \"refused\": \"%s\"", refused);
    if (first) printf(", \"memory_kb\": %.3f", (idle_memory(pid) - memory) / (total - first));
    if (come_back) {
        time = now_ns();
        cut();
        printf(", \"away_s\": %.3f", (now_ns() - time) / 1e9);
    }
    if (seconds) send_and_count(rate, warmup, seconds, stopped, pid);
    printf(", \"dropped\": %d}\n", dropped);
    return 0;
}
