/* A model of turns and channels for the model checker Spin. It describes
 * src/gochat/golang/runtime/threads/turns.py, and handover.py and channel.py next to it.
 *
 * Part 1 is about turns. A hub sends M messages to each of N pumps, which share K turns, and then
 * closes their channels. At most one thing goes wrong: a pump's deadline passes while it waits, or
 * the hub or a pump is interrupted once, as by a signal handler that raises (unless NO_INTERRUPT is
 * defined). This command finds no error:
 *
 *     spin -run docs/turns.pml
 *
 * What it checks is listed below. Each of these lines adds a mistake, for which Spin reports an
 * error:
 *
 *     -DLOOK_FIRST              a pump sleeps although it has a message
 *     -DKEEP_TURN               a stuck pump stops the others
 *     -DDIE_IN_TURN             a dead pump stops the others
 *     -DTAKE_ANYWAY             a pump that is released has one turn too many
 *     -DCALL_FIRST              nobody is woken for the turn that becomes free
 *     -DK=2 -DN=3 -DCALL_ONE    only one of two new turns is announced
 *     -DCLAIM_IN_TWO            the hub is interrupted between the two steps of a claim
 *     -DFORGET_IDLE             the hub is interrupted before it wakes the pump that it unmarked
 *     -DNO_CLEANUP              an interrupted pump keeps its place in line
 *
 * Part 2 is about offers and bells. Each of S senders sends V values to C channels of capacity
 * CAPACITY. A receiver selects over the channels, and another thread closes them at the end. One
 * thing goes wrong: sends have deadlines, or a select has a deadline, or the channels are closed
 * early, or the receiver waits for only one of the channels, or one of the threads is interrupted.
 * This command finds no error, but has to search many states:
 *
 *     spin -run -DOFFERS docs/turns.pml
 *
 * These options lead to no error either:
 *
 *     -DOFFERS -DS=1 -DV=2
 *     -DOFFERS -DC=2 -DTROUBLE=LATE_SENDERS
 *     -DOFFERS -DCAPACITY=1
 *
 * Each of these lines adds a mistake, for which Spin reports an error:
 *
 *     -DOFFERS -DLOOK_FIRST                       the receiver sleeps although a sender waits
 *     -DOFFERS -DC=2 -DONE_BELL                   a slow sender hands its value to a later wait
 *     -DOFFERS -DTAKE_FIRST                       a value is both received and taken back
 *     -DOFFERS -DCLOSE_LAST                       a sender joins the line, and waits forever
 *     -DOFFERS -DNO_CLEANUP                       an interrupted receiver loses a value
 *     -DOFFERS -DCAPACITY=1 -DNO_RECOVERY         an interrupted sender wakes nobody
 *     -DOFFERS -DCAPACITY=1 -DS=3 -DROOM_FIRST    a channel has one value too many
 *
 * Spin checks in every reachable state:
 * - Nothing is lost. In the only end state, all threads have ended, and everything that was sent
 *   was received. A thread that waits forever would be another end state, and an error.
 * - Each value that is received was sent. It is received once, in its sender's order. A value that
 *   was taken back is not received.
 * - No more than K pumps have a turn, and no channel has more values than it has room for.
 * - At the end, nobody is in line.
 *
 * One statement is one step of Python, such as an append, a pop, or a check of the queue or of
 * whether a receiver is idle. A d_step is one call that runs no Python code. An `unless` is an
 * interrupt, which may come between any two steps. The code after an interrupt is not interrupted
 * again.
 */

#ifndef OFFERS

#ifndef N
#define N 2
#endif
#ifndef M
#define M 2
#endif
#ifndef K
#define K 1
#endif
#define NOBODY N
#define HUB N

byte queued[N];         /* Channel.queue: the number of values in it */
bool closed[N];         /* Channel._closed */
bool sentinel[N];       /* Channel._offers: whether it contains the end */
bool idle[N];           /* Channel._idle: whether the receiver has found nothing */
bool armed[N];          /* Waiter.armed */
bool gate[N];           /* Gate: whether there is a wake-up that is not consumed yet */
bool holds[N];          /* Waiter.holds */
byte sent[N];
byte received[N];
bool ended[N];
byte held;              /* number of pumps that have a turn; only for the checks */
bool late;              /* no more deadlines may pass: a second one could save a forgotten pump */
bool signal[N + 1];     /* whether an interrupt is due */

byte line[N + 2];       /* Turns._line, then NOBODY; may briefly contain a pump twice */
byte length;

hidden byte i_, j_;

/* Each of these is one step. Call them in a d_step. */
inline append(who)
{
    assert(length <= N);
    line[length] = who; length++; line[length] = NOBODY
}

inline remove(who)
{
    i_ = 0;
    do
    :: i_ < length && line[i_] != who -> i_++
    :: else -> break
    od;
    if
    :: i_ < length ->
        do
        :: i_ < length -> line[i_] = line[i_ + 1]; i_++
        :: else -> break
        od;
        length--
    :: else
    fi;
    i_ = 0
}

/* Waiter.holds, and `held` for the checks */
inline hold()
{
    d_step { holds[me] = true; held++; assert(held <= K) }
}

inline let_go()
{
    d_step { if :: holds[me] -> holds[me] = false; held-- :: else fi }
}

/* Turns._call: wake the pumps that have a turn and do not know it yet */
inline call()
{
#ifdef CALL_ONE
    d_step { first = (length >= K -> line[K - 1] : NOBODY); second = NOBODY };
#else
    d_step {
        first = (length > 0 -> line[0] : NOBODY);
        second = (K > 1 && length > 1 -> line[1] : NOBODY)
    };
#endif
    if
    :: first != NOBODY && !holds[first] -> gate[first] = true
    :: else
    fi;
    if
    :: second != NOBODY && !holds[second] -> gate[second] = true
    :: else
    fi;
    d_step { first = NOBODY; second = NOBODY }
}

/* Waiter.leave */
inline leave()
{
    if
    :: holds[me] ->
        let_go();
#ifdef CALL_FIRST
        call();
        d_step { remove(me) }
#else
        d_step { remove(me) };
        call()
#endif
    :: else
    fi
}

/* Waiter.retire */
inline retire()
{
    d_step { armed[me] = false };
    let_go();
    d_step { remove(me); remove(me) };
    call()
}

/* Waiter.wait_turn */
inline wait_turn()
{
    do
    :: line[0] == me || (K > 1 && line[1] == me && length > 1) -> break
    :: else -> d_step { gate[me] -> gate[me] = false }
    od;
    hold()
}

/* Waiter.line_up */
inline line_up()
{
    if
    :: holds[me] && length <= K
    :: holds[me] && length > K ->
        let_go();
        d_step { remove(me) };
        d_step { append(me) };
        call();
        wait_turn()
    :: !holds[me] ->
        d_step { append(me) };
        wait_turn()
    fi
}

/* Waiter.wake */
inline wake(to)
{
#ifdef CLAIM_IN_TWO
    if
    :: d_step { armed[to] -> armed[to] = false };
        d_step { append(to) };
        call()
    :: !armed[to]
    fi
#else
    if
    :: d_step { armed[to] -> armed[to] = false; append(to) };
        if
        :: K > 1 -> call()
        :: K == 1 && line[0] == to ->   /* nobody else needs to be called */
            if
            :: !holds[to] -> gate[to] = true
            :: else
            fi
        :: else
        fi
    :: !armed[to]
    fi
#endif
}

/* Channel.try_send */
inline try_send(to)
{
    {
        d_step { queued[to]++; sent[to]++ };
        if                      /* Channel._ring */
        :: idle[to] -> seen = true; idle[to] = false; wake(to)
        :: !idle[to]
        fi;
        seen = false
    } unless {
        signal[HUB];            /* the handlers in Channel._ring, _recover and Waiter.wake */
        signal[HUB] = false;
        call();
        if
#ifdef FORGET_IDLE
        :: idle[to] -> wake(to)
        :: !idle[to]
#else
        :: idle[to] || seen -> wake(to)
        :: !idle[to] && !seen
#endif
        fi;
        seen = false
    }
}

/* Channel.close */
inline close(to)
{
    {
        closed[to] = true;
        sentinel[to] = true;
        if
        :: idle[to] -> gate[to] = true      /* Waiter.let_go */
        :: !idle[to]
        fi
    } unless {
        signal[HUB];
        signal[HUB] = false;
        closed[to] = true;      /* or the caller closes the channel again */
        sentinel[to] = true;
        if
        :: idle[to] -> gate[to] = true
        :: !idle[to]
        fi
    }
}

#define NONEMPTY (queued[me] > 0 || sentinel[me])

proctype pump(byte me)
{
    byte first = NOBODY, second = NOBODY;
    byte got;

receive:
    /* select on a channel with turns, and Client.write_pump's use of the result */
    {
        if
        :: NONEMPTY ->
            if
            :: closed[me]           /* the remaining values need no turn */
            :: !closed[me] -> line_up()
            fi
        :: !NONEMPTY ->
            armed[me] = true;
            idle[me] = true;
            if
#ifndef LOOK_FIRST
            :: NONEMPTY ->          /* the second check: sleep only if already claimed */
                if
                :: d_step { armed[me] -> armed[me] = false }; idle[me] = false; goto receive
                :: !armed[me]
                fi
#endif
            :: else
            fi;
            leave();                /* Waiter.wait */
            if
            :: d_step { gate[me] -> gate[me] = false }
            :: d_step { !late -> late = true }      /* the deadline: time for a ping */
            fi;
#ifdef TAKE_ANYWAY
            if
            :: d_step { armed[me] -> armed[me] = false }; hold()
            :: !armed[me] -> wait_turn()
            fi;
            idle[me] = false
#else
            if
            :: d_step { armed[me] -> armed[me] = false }; idle[me] = false; goto receive
            :: !armed[me] -> wait_turn(); idle[me] = false
            fi
#endif
        fi;
        if                          /* Channel._take, and Channel.drain */
        :: queued[me] == 0 && sentinel[me] -> goto done
        :: queued[me] == 0 && !sentinel[me] -> goto receive   /* woken for nothing */
        :: queued[me] > 0
        fi;
        do
        :: queued[me] > 0 -> d_step { queued[me]--; got++ }
        :: got > 0 -> break
        od;
        skip;
        d_step { received[me] = received[me] + got; got = 0 }
    } unless {
        signal[me];
        signal[me] = false;
#ifdef NO_CLEANUP
        d_step { armed[me] = false };
        let_go();
#else
        idle[me] = false;
        retire();
#endif
        d_step { queued[me] = queued[me] + got; got = 0 };
        goto receive                /* the caller goes on */
    };
    if                              /* Conn.write_message */
    :: true                         /* the socket accepts the whole frame immediately */
#ifdef KEEP_TURN
    :: me == 0 -> end_stuck: false
#else
    :: me == 0 -> leave(); goto stuck
    :: leave()                      /* the socket was full for a while */
#endif
#ifdef DIE_IN_TURN
    :: me == 0 -> goto stuck
#else
    :: me == 0 -> retire(); goto stuck      /* the thread ends: _Guard */
#endif
    fi;
    goto receive;
stuck:
end_stuck_for_good: false;
done:
    leave();                        /* Conn.close */
    ended[me] = true
}

init
{
    byte me = HUB;
    byte first = NOBODY, second = NOBODY;
    byte n, i;
    bool seen;              /* try_send: whether the receiver was marked as idle */

    atomic {
        line[0] = NOBODY;
        for (i : 0 .. N - 1) {
            run pump(i)
        }
        if                          /* only one thing goes wrong; more would make too many states */
        :: late = false
#ifndef NO_INTERRUPT
        :: late = true; run signals()
#endif
        fi
    }
    for (n : 1 .. M) {
        for (i : 0 .. N - 1) {
            try_send(i)
        }
    }
    for (i : 0 .. N - 1) {
        close(i)
    }
    /* All pumps have ended, except pump 0, which may be stuck. */
    for (i : 1 .. N - 1) {
        ended[i] && received[i] == sent[i]
    }
    if
    :: ended[0] && received[0] == sent[0]
#ifdef KEEP_TURN
    :: pump[1]@end_stuck
#else
    :: pump[1]@end_stuck_for_good
#endif
    fi;
    assert(length == 0 && held == 0)
}

/* Interrupts the hub or a pump once. An interrupt that comes too late has no effect. */
proctype signals()
{
    byte who = HUB;

    atomic {
        do
        :: who > 0 -> who--
        :: true -> break
        od;
        signal[who] = true
    }
}

#endif

#ifdef OFFERS

#ifndef S
#define S 2
#endif
#ifndef V
#define V 1
#endif
#ifndef CAPACITY
#define CAPACITY 0
#endif
#ifndef WAITS
#define WAITS 10        /* maximum number of times that the receiver waits */
#endif
#ifndef C
#define C 1             /* 1 or 2 channels; sender s sends its value v to channel (s + v) % C */
#endif
#define SIZE 4
#define NOTHING 255
#define O (S * V)       /* number of offers; a sender's v-th offer and value are sender * V + v */
#define THE_END O       /* channel._END, which is in line with the senders' offers */
#define CLOSER S
#define RECEIVER (S + 1)

chan queue[2] = [SIZE] of { byte };     /* Channel.queue */
chan line[2] = [O + 1] of { byte };     /* Channel._offers */
bool closed[2];                         /* Channel._closed */
byte idle[2];                           /* Channel._idle: a bell, or NOTHING */

byte offered[O];        /* Offer._offered: the value, or NOTHING after it was moved */
bool refused[O];        /* Offer.refused */
bool gate[O];           /* Offer.gate */

byte given[WAITS];      /* Bell._given: NOTHING, an offer, or THE_END when the wait has ended */
byte giver[WAITS];      /* the channel of that offer */
bool rung[WAITS];       /* the Bell's gate */
byte bells;             /* number of bells so far */

byte sent[S];           /* number of each sender's values that were sent */
byte received[S];
byte last[S];           /* number of the last value received from each sender, plus 1 */
bool ended[S];
bool signal[S + 2];     /* whether an interrupt is due */

/* What goes wrong. With more than one thing at a time, there would be too many states. */
mtype = { LATE_SENDERS, LATE_RECEIVER, CLOSED_EARLY, ONE_ALONE, INTERRUPT };
mtype trouble;

hidden byte k_, x_;

/* Channel._dismiss */
inline dismiss(c, o)
{
    d_step { if :: offered[o] != NOTHING -> offered[o] = NOTHING; refused[o] = true :: else fi };
    gate[o] = true;
    d_step {
        if
        :: line[c] ?? [eval(o)] -> line[c] ?? eval(o)
        :: !(line[c] ?? [eval(o)])
        fi
    }
}

/* Channel._wake */
inline wake(c)
{
    bell = idle[c];
    if
    :: bell != NOTHING -> rung[bell] = true
    :: bell == NOTHING
    fi;
    bell = NOTHING
}

#define NO_ROOM (len(queue[c]) >= CAPACITY)

/* Channel._move */
inline admit(c)
{
    do
    :: len(line[c]) == 0 -> break
    :: len(line[c]) > 0 ->
#ifdef ROOM_FIRST
        if
        :: NO_ROOM -> break
        :: !NO_ROOM
        fi;
#endif
        d_step { if :: len(line[c]) > 0 -> line[c] ? <first> :: else -> first = THE_END fi };
        if
        :: first == THE_END -> break
#ifndef ROOM_FIRST
        :: first != THE_END && offered[first] != NOTHING && NO_ROOM -> break
#endif
        :: else
        fi;
        d_step {
            if
            :: offered[first] != NOTHING ->
                queue[c] ! offered[first];
                assert(len(queue[c]) <= CAPACITY || trouble == INTERRUPT);  /* or a value is put back */
                offered[first] = NOTHING
            :: else
            fi
        };
        dismiss(c, first)
    od;
    first = NOTHING
}

/* Channel._recover */
inline recover(c)
{
    index = 0;
    do
    :: index == O -> break
    :: index < O ->
        if
        :: line[c] ?? [eval(index)] && offered[index] == NOTHING -> dismiss(c, index)
        :: !(line[c] ?? [eval(index)]) || offered[index] != NOTHING
        fi;
        index++
    od;
    index = 0;
    admit(c);
    wake(c)
}

/* Channel._wait_to_send, with a deadline */
proctype sender(byte me)
{
    byte c, v, o, bell = NOTHING, first = NOTHING, index;
    bool tried;

    do
    :: v == V -> break
    :: v < V ->
        d_step { c = (me + v) % C; o = me * V + v };
        {
            if
            :: closed[c] -> goto done           /* _check_open */
            :: !closed[c]
            fi;
            d_step { tried = true; offered[o] = o };
#if CAPACITY > 0
            d_step {                            /* _queue_if_room */
                if
                :: !NO_ROOM && len(line[c]) == 0 -> queue[c] ! offered[o]; offered[o] = NOTHING
                :: else
                fi
            };
            if
            :: offered[o] == NOTHING -> wake(c); goto done
            :: offered[o] != NOTHING
            fi;
#else
            bell = idle[c];                     /* _hand_over */
            if
            :: bell != NOTHING && len(line[c]) == 0 ->
                d_step {
                    if
                    :: given[bell] == NOTHING -> given[bell] = o; giver[bell] = c; index = 1
                    :: else
                    fi
                };
                if
                :: index == 1 -> rung[bell] = true; goto done
                :: index == 0
                fi
            :: else
            fi;
#endif
            line[c] ! o;
            if
#ifndef CLOSE_LAST
            :: closed[c] -> dismiss(c, o)
            :: !closed[c] -> admit(c); wake(c)
#else
            :: true -> admit(c); wake(c)
#endif
            fi;
            do
            :: offered[o] == NOTHING -> break
            :: offered[o] != NOTHING ->
                if
                :: d_step { gate[o] -> gate[o] = false }
#ifndef CLOSE_LAST
                :: trouble == LATE_SENDERS -> dismiss(c, o)      /* the deadline */
#endif
                fi
            od
        } unless {
            signal[me];
            signal[me] = false;
            if
            :: tried -> dismiss(c, o)
            :: !tried
            fi;
#ifndef NO_RECOVERY
            recover(c)
#endif
        };
done:   skip;
        d_step {
            if
            :: tried && !refused[o] -> sent[me]++
            :: else
            fi;
            tried = false; bell = NOTHING; first = NOTHING; index = 0
        };
        v++
    od;
    ended[me] = true
}

/* Channel._take */
inline take(c)
{
    if
    :: len(queue[c]) > 0 ->
        d_step { queue[c] ? got; from = c };
        admit(c)
    :: len(queue[c]) == 0 && len(line[c]) > 0 ->
        d_step { if :: len(line[c]) > 0 -> line[c] ? <first> :: else -> first = NOTHING fi };
        if
        :: len(queue[c]) > 0 || first == NOTHING
        :: len(queue[c]) == 0 && first == THE_END -> open[c] = false
        :: else ->
#ifdef TAKE_FIRST
            got = offered[first];
            d_step { offered[first] = NOTHING; from = c };
#else
            d_step {
                if
                :: offered[first] != NOTHING -> got = offered[first]; offered[first] = NOTHING; from = c
                :: else
                fi
            };
#endif
            dismiss(c, first)
        fi
    :: else
    fi;
    first = NOTHING
}

/* Bell.end */
inline end_wait()
{
    d_step {
        if
        :: given[bell] == NOTHING -> given[bell] = THE_END
        :: else
        fi
    };
    if
    :: given[bell] != THE_END ->
        assert(waits[giver[bell]]);
        c = giver[bell];
        d_step {
            if
            :: offered[given[bell]] != NOTHING ->
                queue[c] ! offered[given[bell]];
                offered[given[bell]] = NOTHING
            :: else
            fi
        };
        given[bell] = THE_END
    :: given[bell] == THE_END
    fi
}

#define READY(c) (len(queue[c]) > 0 || len(line[c]) > 0)

/* select, over the channels that the receiver has not yet seen closed, or over one of them */
proctype receiver()
{
    byte c, bell = NOTHING, first = NOTHING, index, got = NOTHING, from;
    bool open[2];
    bool waits[2];

    open[0] = true; open[1] = C > 1;

receive:
    do
    :: !open[0] && !open[1] -> break
    :: open[0] || open[1] ->
        {
            d_step { waits[0] = open[0]; waits[1] = open[1] };
            if
            :: true
            :: trouble == ONE_ALONE && open[0] && open[1] && bells < 3 -> waits[0] = false
            fi;
            if
            :: waits[0] -> c = 0
            :: waits[1] -> c = 1
            fi;
            take(c);
            if
            :: got != NOTHING || !open[c] -> goto done
            :: else
            fi;
            if
            :: waits[1 - c] -> c = 1 - c; take(c)
            :: !waits[1 - c]
            fi;
            if
            :: got != NOTHING || !open[c] -> goto done
            :: else
            fi;
            d_step {
#ifdef ONE_BELL
                bell = 0;
                rung[0] = false;
                given[0] = NOTHING;
#else
                bell = bells;
                bells++;
                assert(bells <= WAITS);
#endif
            };
            if :: waits[0] -> idle[0] = bell :: !waits[0] fi;
            if :: waits[1] -> idle[1] = bell :: !waits[1] fi;
            if
#ifndef LOOK_FIRST
            :: waits[0] && READY(0)
            :: waits[1] && READY(1)
#endif
            :: else ->
                if
                :: rung[bell]
                :: trouble == LATE_RECEIVER && bells <= 2       /* the deadline */
                :: trouble == ONE_ALONE && open[0] && !waits[0]
                fi
            fi;
            end_wait();
            if
            :: len(queue[c]) > 0 -> take(c)
            :: len(queue[c]) == 0
            fi
        } unless {
            signal[RECEIVER];
            signal[RECEIVER] = false;
#ifndef NO_CLEANUP
            d_step {                            /* put the value back at the front of the queue */
                if
                :: got != NOTHING ->
                    k_ = len(queue[from]);
                    queue[from] ! got;
                    do
                    :: k_ > 0 -> queue[from] ? x_; queue[from] ! x_; k_--
                    :: else -> break
                    od;
                    x_ = 0
                :: else
                fi
            };
#endif
            got = NOTHING;
            if
            :: bell != NOTHING -> end_wait()
            :: bell == NOTHING
            fi;
            recover(0);
#if C > 1
            recover(1);
#endif
            goto receive
        };
done:   skip;
        d_step {
            if
            :: got != NOTHING ->
                assert(got % V >= last[got / V]);
                last[got / V] = got % V + 1;
                received[got / V]++
            :: else
            fi;
            got = NOTHING; from = 0; c = 0; bell = NOTHING; first = NOTHING; index = 0;
            waits[0] = false; waits[1] = false
        }
    od
}

/* Channel._finish */
inline finish(c)
{
    admit(c);
    index = 0;
    do
    :: index == O -> break
    :: index < O ->
        if
        :: line[c] ?? [eval(index)] -> dismiss(c, index)
        :: !(line[c] ?? [eval(index)])
        fi;
        index++
    od;
    index = 0;
    d_step { if :: line[c] ?? [eval(THE_END)] :: !(line[c] ?? [eval(THE_END)]) -> line[c] ! THE_END fi };
    wake(c)
}

#define ALL_RECEIVED \
    (received[0] == sent[0] && received[1 % S] == sent[1 % S] && received[S - 1] == sent[S - 1])

/* Channel.close, on all channels. Unless the close is early, it comes after all values have been
 * received, so its wake-up cannot hide that an earlier wake-up was lost. */
proctype closer()
{
    byte c, bell = NOTHING, first = NOTHING, index;

    trouble == CLOSED_EARLY || ended[0] && ended[1 % S] && ended[S - 1] && ALL_RECEIVED;
    do
    :: c == C -> break
    :: c < C ->
        {
            closed[c] = true;
            finish(c)
        } unless {
            signal[CLOSER];
            signal[CLOSER] = false;
            closed[c] = true;           /* or the caller closes the channel again */
            finish(c);
            recover(c)
        };
        c++
    od
}

init
{
    byte i;

    atomic {
        idle[0] = NOTHING; idle[1] = NOTHING;
        for (i : 0 .. WAITS - 1) {
            given[i] = NOTHING
        }
        for (i : 0 .. O - 1) {
            offered[i] = NOTHING
        }
        i = 0;
        for (i : 0 .. S - 1) {
            run sender(i)
        }
        i = 0;
        run receiver();
        run closer();
        if
#ifdef TROUBLE
        :: trouble = TROUBLE
#else
        :: trouble = LATE_SENDERS
        :: trouble = LATE_RECEIVER
        :: trouble = CLOSED_EARLY
        :: trouble = ONE_ALONE
        :: trouble = INTERRUPT
#endif
        fi;
        if
        :: trouble == INTERRUPT -> run signals()
        :: else
        fi
    }
    _nr_pr == 1;
    assert(ALL_RECEIVED);
    assert(len(line[0]) == 1 && len(line[1]) == C - 1)
}

/* Interrupts one of these threads once. An interrupt that comes too late has no effect. */
proctype signals()
{
    byte who = RECEIVER;

    atomic {
        do
        :: who > 0 -> who--
        :: true -> break
        od;
        signal[who] = true
    }
}

#endif
