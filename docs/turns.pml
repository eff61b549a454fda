/* The turns of the write pumps, for the model checker spin: src/gochat/turns.py, and what channel.py
 * does with them. One hub sends M messages to each of N pumps, which share K turns, and then closes
 * their channels.
 *
 *     spin -run docs/turns.pml                        no errors: see below
 *     spin -run -DLOOK_FIRST docs/turns.pml           an error: a pump sleeps on a message
 *     spin -run -DKEEP_TURN docs/turns.pml            an error: a stuck pump stops the others
 *     spin -run -DTAKE_ANYWAY docs/turns.pml          an error: who is let go has a turn too many
 *     spin -run -DLOOK_BEFORE_LINE docs/turns.pml     an error: a pump stands in line beside a free turn
 *
 * What is checked in every state that can be reached:
 * - Nothing is lost: there is no end but the one in which every pump has received everything, and has
 *   ended. A pump that waits for ever with a message queued would be another end, and an error.
 * - No more than K pumps have a turn.
 * - At the end all turns are free, and nobody is in line.
 *
 * One statement here is one step of Python: an append, a pop, a look at the queue, a look at who is idle.
 * What is done with a lock held, and does not block, is atomic: no other thread sees its middle.
 */

#ifndef N
#define N 3
#endif
#ifndef M
#define M 2
#endif
#ifndef K
#define K 1
#endif

byte queued[N];         /* Channel.queue: how many values are in it */
bool closed[N];         /* Channel._closed */
bool sentinel[N];       /* Channel.queue: what lies behind the last value */
bool idle[N];           /* Channel._idle: the receiver is to be woken */
bool gate[N];           /* Waiter._gate: a turn was given, or it was let go, and has not run yet */
bool let_go[N];         /* Waiter._let_go */
bool holds[N];          /* Waiter._holds */
byte received[N];
bool ended[N];
byte held;              /* how many pumps have a turn, to be checked */

chan line = [N] of { byte };    /* Turns._line */
byte free = K;                  /* Turns._free */

/* Turns._dispatch, with the lock held */
inline dispatch()
{
    atomic {
        do
        :: free > 0 && nempty(line) -> free--; line ? first; gate[first] = true
        :: free == 0 || empty(line) -> break
        od
    }
}

/* Turns.join_line: first into the line, then a look for a free turn */
inline join_line(who)
{
#ifdef LOOK_BEFORE_LINE
    if
    :: free > 0 -> line ! who; dispatch()
    :: free == 0 -> line ! who
    fi
#else
    line ! who;
    if
    :: free > 0 -> dispatch()
    :: else
    fi
#endif
}

/* Turns.hand_on: straight to the first in line, or first free, and then a look at the line */
inline hand_on()
{
    if
    :: atomic { nempty(line) -> line ? first; gate[first] = true }
    :: empty(line) -> free++;
        dispatch()
    fi
}

/* Waiter.give_up */
inline give_up()
{
    if
    :: holds[me] -> holds[me] = false; held--; hand_on()
    :: else
    fi
}

/* What Waiter.line_up and Waiter.wait do when their gate opens. */
inline pass_gate()
{
    atomic {
        gate[me]; gate[me] = false;
        if
#ifndef TAKE_ANYWAY
        :: let_go[me] -> let_go[me] = false
        :: !let_go[me] -> holds[me] = true; held++; assert(held <= K)
#else
        :: true -> holds[me] = true; held++; assert(held <= K)
#endif
        fi
    }
}

/* Waiter.line_up */
inline line_up()
{
    if
    :: holds[me] && empty(line)
    :: holds[me] && nempty(line) -> line ! me; give_up(); pass_gate()
    :: !holds[me] -> join_line(me); pass_gate()
    fi
}

/* Channel.try_send, by the hub's thread */
inline try_send(to)
{
    queued[to]++;
    if
    :: idle[to] ->
        if                      /* Channel._claim: one step, that only one thread can do */
        :: atomic { idle[to] -> idle[to] = false };
            join_line(to)       /* Waiter.wake */
        :: !idle[to]
        fi
    :: !idle[to]
    fi
}

/* Channel.close, by the hub's thread. Between the two steps the mutex is held, but who only looks does
 * not know. */
inline close(to)
{
    closed[to] = true;
    sentinel[to] = true;
    if
    :: atomic { idle[to] -> idle[to] = false }; let_go[to] = true; gate[to] = true
    :: !idle[to]
    fi
}

#define NONEMPTY (queued[me] > 0 || sentinel[me])

proctype pump(byte me)
{
    byte first;

    /* channel._receive_in_turn, and what Client.write_pump does with what it gives */
receive:
    if
    :: NONEMPTY ->
        if
        :: closed[me]           /* the rest needs no turn */
        :: !closed[me] -> line_up()
        fi;
take:
        if
        :: !NONEMPTY -> goto receive        /* woken for what it has received meanwhile */
        :: queued[me] == 0 && sentinel[me] -> goto done
        :: queued[me] > 0
        fi;
        do                      /* Channel.drain: what comes meanwhile is taken, or left */
        :: queued[me] > 0 -> atomic { queued[me]--; received[me]++ }
        :: break
        od;
        if                      /* Conn.write_message */
        :: true                 /* the socket takes it all at once */
#ifdef KEEP_TURN
        :: me == 0 -> end_stuck: false
#else
        :: me == 0 -> give_up(); end_stuck: false
        :: give_up()            /* it was full for a while */
#endif
        fi;
        goto receive
    :: !NONEMPTY ->
#ifdef LOOK_FIRST
        idle[me] = true;        /* too late: what came between the look and this rings for nobody */
#else
        idle[me] = true;
        if
        :: NONEMPTY ->
            atomic {
                if
                :: idle[me] -> idle[me] = false; goto receive
                :: else         /* claimed already: a turn is on its way */
                fi
            }
        :: else
        fi;
#endif
        give_up();
        if                      /* Waiter.wait */
        :: pass_gate()
#ifndef LOOK_FIRST
        :: atomic {             /* the deadline: time for a ping */
                if
                :: idle[me] -> idle[me] = false; goto receive
                :: else
                fi
            };
            pass_gate()
#endif
        fi;
        goto take
    fi;
done:
    give_up();                  /* Conn.close */
    ended[me] = true
}

init
{
    byte i, n, first;

    atomic {
        for (i : 0 .. N - 1) {
            run pump(i)
        }
    }
    for (n : 1 .. M) {
        for (i : 0 .. N - 1) {
            try_send(i)
        }
    }
    for (i : 0 .. N - 1) {
        close(i)
    }
    /* Everyone has ended, or is pump 0 and stuck. */
    for (i : 1 .. N - 1) {
        ended[i] && received[i] == M
    }
    if
    :: ended[0] && received[0] == M
    :: pump[1]@end_stuck
    fi;
    assert(free == K && empty(line))
}
