import type { Task } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import type { TaskQuery } from './task-query.js';

/** Whether a task is one that the query asks for: the same rules as the server's TaskFilter, for changes that arrive live. */
export function matchesQuery(query: TaskQuery, task: Task): boolean {
  return (
    isOneOf(query.statuses, task.status) &&
    isOneOf(query.groups, task.groupId) &&
    isOneOf(query.users, task.user) &&
    task.id.startsWith(query.idPrefix) &&
    task.name.toLowerCase().startsWith(query.namePrefix.toLowerCase()) &&
    task.addr.startsWith(query.addrPrefix) &&
    hasAllWords(query.words, task)
  );
}

function isOneOf(wanted: readonly string[], value: string): boolean {
  return wanted.length === 0 || wanted.includes(value);
}

function hasAllWords(words: readonly string[], task: Task): boolean {
  if (words.length === 0) return true;
  const fields = [task.id, task.name, task.url, task.description, task.addr].map((field) => field.toLowerCase());
  return words.every((word) => fields.some((field) => field.includes(word.toLowerCase())));
}
