/* SPDX-License-Identifier: Apache-2.0 */
/* emu_stream.h - streams and events as objects, for the calls on them. The lock is held. */
#pragma once
#include "emu_internal.h"

struct CUstream_st *emu_stream_new(bool non_blocking, int priority);
void emu_stream_delete(struct CUstream_st *s);
struct CUstream_st *emu_stream_each(struct CUstream_st *s); // NULL starts and ends
struct CUevent_st *emu_event_new(unsigned flags);
struct CUevent_st *emu_event_check(cudaEvent_t e); // NULL: not an event
void emu_event_unref(struct CUevent_st *e);
bool emu_in_host_fn(void); // the calling thread is inside a host function of a stream

/* ---- emu_graph.c: what captures */
cudaError_t emu_submit(struct CUstream_st *s,
                       emu_work *work);       // enqueues, or adds a node
cudaError_t emu_unsafe_while_capturing(void); // for calls that would break a capture, and do
void emu_capture_record(struct CUstream_st *s, struct CUevent_st *e);
cudaError_t emu_capture_wait(struct CUstream_st *s, const struct CUevent_st *e);
