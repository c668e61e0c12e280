import { EntitySchema } from 'typeorm';

/** Values that all nodes share: signing secrets and the like. */
export const settingEntity = new EntitySchema<{ key: string; value: Buffer }>({
  name: 'setting',
  tableName: 'setting',
  columns: {
    key: { type: 'text', collation: 'C', primary: true, primaryKeyConstraintName: 'setting_pkey' },
    value: { type: 'bytea' },
  },
});
