/** Whether anybody can administer, asked of the database: what to tell operators as long as nobody can. */

/** Runs a prepared statement. */
interface Database {
  rows<Row extends object>(statement: { name: string; text: string }, values: readonly unknown[]): Promise<Row[]>;
}

/** Before there are users nothing is missing: the first start makes an administrator. */
const MISSING = {
  name: 'administrator_missing',
  text: `SELECT FROM app_user HAVING count(*) > 0 AND count(*) FILTER (WHERE administrator AND NOT disabled) = 0`,
};

/** What is wrong and what to do, where there are users and none of them is an administrator who can log in. */
export async function missingAdministrator(database: Database): Promise<string | undefined> {
  if ((await database.rows(MISSING, [])).length === 0) return undefined;
  return (
    'There is no administrator who can log in, and a start makes none once there are users. ' +
    'Make one: taskdash user add NAME --administrator'
  );
}
