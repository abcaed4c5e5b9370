/*
 * Leases as a state machine that spin explores whole: one task (with G > 1 a gang), its coordinator and W workers.
 *
 * The coordinator changes its memory, syncs it to its disk, and only then speaks; it may be killed at any point and
 * starts again from its disk. Workers run attempts and report them; they may be killed, and their connection may be
 * cut, which loses whatever was on its way. Silence ends a lease at any moment: time is not in the model.
 *
 * Claimed (docs/design.md):
 *   L1  one result is committed, once
 *   L2  an epoch is given out once, and nothing is accepted of an attempt that has been replaced
 *   L5  what a worker is told to have been accepted is on the coordinator's disk
 *   M1  a gang whose member was lost commits nothing
 *   end when the faults stop, the task completes
 *
 * -DG -DE -DLOSSES -DCUTS -DKILLS bound what is explored (each of the last three may use up an epoch, of which
 * there are 2 or 3); -DPLANT=n plants a bug that one of the claims must catch.
 */
/* the first and the last act, so two are enough */
#define W 2
#ifndef G
#define G 1
#endif
#ifndef E
#define E 3
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef PLANT
#define PLANT 0
#endif
#define SPEAK_BEFORE_SYNC (PLANT == 1)
#define NO_EPOCH_CHECK    (PLANT == 2)
#define LATE_GANG_REPORT  (PLANT == 3)
#define REUSE_EPOCH       (PLANT == 4)

#define X(w, e) ((w) * (E + 1) + (e))
#define SIZE (W * (E + 1))

/* the task */
#define ACTIVE 0
#define LEASED 1
#define DONE   2
/* how its newest attempt ended without a report: a lost one may still report, a revoked one may not */
#define NONE    0
#define LOST    1
#define REVOKED 2

typedef Row {
  byte epoch;
  byte state;
  byte lastEnd;
  byte result;
  byte holder[G]
}
Row mem, disk;

/* something is to be synced; said by the coordinator, but not before that */
bool dirty;
bool grantWaits;
bool acceptWaits[SIZE], refuseWaits[SIZE], stopWaits[SIZE];
/* on their way */
bool grantNet[SIZE], reportNet[SIZE], acceptNet[SIZE], refuseNet[SIZE], stopNet[SIZE];

bool connected[W] = true;

/* an attempt on a worker */
#define NIL      0
#define RUNNING  1
#define FINISHED 2
#define OVER     3
byte attempt[SIZE];

byte cuts = CUTS, kills = KILLS, losses = LOSSES;

/* seen by nobody: what has happened for good so far */
bool spoken[E + 1];
bool memberLost[E + 1];
byte commits;

inline giveUp(how) {
  dirty = true;
  mem.state = ACTIVE;
  mem.lastEnd = how
}

/* a gang's other members are told to stop, so it counts as revoked (M1) */
inline lose() {
  if
  :: G > 1 ->
    for (m : 0 .. G - 1) { stopWaits[X(mem.holder[m], mem.epoch)] = true }
    giveUp((LATE_GANG_REPORT -> LOST : REVOKED))
  :: else -> giveUp(LOST)
  fi
}

inline speak() {
  if
  :: grantWaits ->
    assert(!spoken[mem.epoch]); /* L2 */
    spoken[mem.epoch] = true;
    for (m : 0 .. G - 1) {
      if
      :: connected[mem.holder[m]] -> grantNet[X(mem.holder[m], mem.epoch)] = true
      :: else
      fi
    }
    grantWaits = false
  :: else
  fi;
  for (i : 0 .. SIZE - 1) {
    if
    :: connected[i / (E + 1)] ->
      acceptNet[i] = acceptNet[i] || acceptWaits[i];
      refuseNet[i] = refuseNet[i] || refuseWaits[i];
      stopNet[i] = stopNet[i] || stopWaits[i]
    :: else
    fi;
    acceptWaits[i] = false;
    refuseWaits[i] = false;
    stopWaits[i] = false
  }
}

inline copy(from, to) {
  to.epoch = from.epoch;
  to.state = from.state;
  to.lastEnd = from.lastEnd;
  to.result = from.result;
  for (m : 0 .. G - 1) { to.holder[m] = from.holder[m] }
}

inline take(w, e) {
  for (i : e + 1 .. E) { assert(!spoken[i]) } /* L2 */
  assert(G == 1 || !memberLost[e]); /* M1 */
  mem.state = DONE;
  mem.result = e
}

inline report(w, e) {
  dirty = true;
  reportNet[X(w, e)] = false;
  if
  :: mem.state == DONE && mem.result == e -> acceptWaits[X(w, e)] = true
  :: mem.state == LEASED && (mem.epoch == e || NO_EPOCH_CHECK) && mem.holder[0] == w ->
    take(w, e);
    acceptWaits[X(w, e)] = true;
    for (m : 1 .. G - 1) { stopWaits[X(mem.holder[m], e)] = true }
  :: mem.state == ACTIVE && (mem.epoch == e || NO_EPOCH_CHECK) && mem.lastEnd == LOST && mem.holder[0] == w ->
    take(w, e);
    acceptWaits[X(w, e)] = true
  :: else -> refuseWaits[X(w, e)] = true
  fi
}

/* a worker is back and says what it has (L6); the answer is acted on at once, for it comes on the same connection */
inline hello(w) {
  dirty = true;
  connected[w] = true;
  for (e : 1 .. E) {
    bool has = attempt[X(w, e)] == RUNNING || attempt[X(w, e)] == FINISHED;
    bool holds = false;
    for (m : 0 .. G - 1) { holds = holds || (mem.epoch == e && mem.holder[m] == w) }
    if
    :: has && holds && mem.state == LEASED
    :: has && holds && mem.state == ACTIVE && mem.lastEnd == LOST && G == 1 -> mem.state = LEASED; mem.lastEnd = NONE
    :: has && attempt[X(w, e)] == FINISHED /* its report is answered */
    :: has && attempt[X(w, e)] == RUNNING && !(holds && (mem.state == LEASED || mem.lastEnd == LOST)) -> stopWaits[X(w, e)] = true
    :: !has && holds && mem.state == LEASED -> lose()
    :: else
    fi
  }
}

#define REPORTS(w, e) :: atomic { reportNet[X(w, e)] -> report(w, e) }

proctype Coordinator() {
  byte m, w, e, i;
  do
  :: atomic {
      mem.state == ACTIVE && mem.epoch < E && !grantWaits && connected[0] && connected[W - 1] ->
      mem.epoch = (REUSE_EPOCH && mem.lastEnd != NONE -> mem.epoch : mem.epoch + 1);
      mem.state = LEASED;
      mem.lastEnd = NONE;
      grantWaits = true;
      dirty = true;
      if
      :: G == 1 ->
        if
        :: mem.holder[0] = 0
        :: mem.holder[0] = W - 1
        fi
      :: else -> for (m : 0 .. G - 1) { mem.holder[m] = m }
      fi
    };
    if
    :: SPEAK_BEFORE_SYNC -> d_step { speak(); skip }
    :: else
    fi
  :: d_step { mem.state == LEASED && losses > 0 -> losses--; lose(); skip }
  REPORTS(0, 1)
  REPORTS(W - 1, 1)
  REPORTS(0, 2)
  REPORTS(W - 1, 2)
#if E > 2
  REPORTS(0, 3)
  REPORTS(W - 1, 3)
#endif
  :: atomic { !connected[0] -> hello(0) }
  :: atomic { !connected[W - 1] -> hello(W - 1) }
  /* persist, then speak (L5) */
  :: d_step {
      dirty ->
      dirty = false;
      if
      :: disk.state != DONE && mem.state == DONE -> commits++; assert(commits == 1) /* L1 */
      :: disk.state == DONE -> assert(mem.state == DONE && mem.result == disk.result) /* L1 */
      :: else
      fi;
      if
      :: mem.state == ACTIVE && mem.lastEnd != NONE -> memberLost[mem.epoch] = true
      :: else
      fi;
      copy(mem, disk);
      speak();
      skip
    }
  /* killed; its connections end with it */
  :: d_step {
      kills > 0 ->
      kills--;
      copy(disk, mem);
      dirty = false;
      grantWaits = false;
      for (i : 0 .. SIZE - 1) {
        acceptWaits[i] = false;
        refuseWaits[i] = false;
        stopWaits[i] = false;
        grantNet[i] = false;
        reportNet[i] = false;
        acceptNet[i] = false;
        refuseNet[i] = false;
        stopNet[i] = false
      }
      for (w : 0 .. W - 1) { connected[w] = false }
      skip
    }
  od
}

inline disconnect(w) {
  connected[w] = false;
  for (e : 0 .. E) {
    grantNet[X(w, e)] = false;
    reportNet[X(w, e)] = false;
    acceptNet[X(w, e)] = false;
    refuseNet[X(w, e)] = false;
    stopNet[X(w, e)] = false
  }
}

/* what may happen to one attempt on its worker; it sends its report again whenever nothing of the last one is on its way */
#define ATTEMPT(w, e) \
  :: atomic { grantNet[X(w, e)] -> grantNet[X(w, e)] = false; attempt[X(w, e)] = (attempt[X(w, e)] == NIL -> RUNNING : attempt[X(w, e)]) } \
  :: atomic { attempt[X(w, e)] == RUNNING -> attempt[X(w, e)] = FINISHED } \
  :: atomic { attempt[X(w, e)] == FINISHED && connected[w] && !reportNet[X(w, e)] && !acceptNet[X(w, e)] && !refuseNet[X(w, e)] && \
              !acceptWaits[X(w, e)] && !refuseWaits[X(w, e)] -> reportNet[X(w, e)] = true } \
  :: atomic { acceptNet[X(w, e)] -> acceptNet[X(w, e)] = false; assert(disk.state == DONE && disk.result == e); /* L5 */ \
              attempt[X(w, e)] = OVER } \
  :: atomic { refuseNet[X(w, e)] -> refuseNet[X(w, e)] = false; attempt[X(w, e)] = OVER } \
  :: atomic { stopNet[X(w, e)] -> stopNet[X(w, e)] = false; attempt[X(w, e)] = OVER }

proctype Worker(byte self) {
  byte e;
  do
  ATTEMPT(self, 1)
  ATTEMPT(self, 2)
#if E > 2
  ATTEMPT(self, 3)
#endif
  :: d_step { cuts > 0 && connected[self] -> cuts--; disconnect(self); skip }
  /* killed: what ran is gone, what had finished is in the journal */
  :: d_step {
      kills > 0 ->
      kills--;
      disconnect(self);
      for (e : 1 .. E) {
        if
        :: attempt[X(self, e)] == RUNNING -> attempt[X(self, e)] = OVER
        :: else
        fi
      }
      skip
    }
  od
}

init {
  atomic {
    run Coordinator();
    run Worker(0);
    run Worker(W - 1)
  }
}

ltl completes { <> (disk.state == DONE) }
