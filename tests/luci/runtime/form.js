// L.form: maps of sections of options, which show a configuration and change it.

import { Base } from './class.js';
import { Map, JSONMap } from './form-map.js';
import * as sections from './form-sections.js';
import * as values from './form-values.js';

export const Form = Base.extend({ __name__: 'form', Map, JSONMap, ...sections, ...values });
