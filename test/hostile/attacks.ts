/** All attacks by name. */
export * from './attacks/all-doors.js';
export * from './attacks/calls.js';
export * from './attacks/floods.js';
export * from './attacks/http.js';
export * from './attacks/legacy.js';
export * from './attacks/messages.js';
export * from './attacks/others.js';
export * from './attacks/records.js';
export * from './attacks/streams.js';
