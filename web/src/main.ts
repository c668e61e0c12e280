import { mount } from 'svelte';
import App from './App.svelte';
import { live } from './state/live.svelte.js';
import { navigation } from './state/navigation.svelte.js';
import { preferences } from './state/preferences.svelte.js';
import { session } from './state/session.svelte.js';
import { shortcuts } from './state/shortcuts.js';
import './styles/tokens.css';
import './styles/base.css';

preferences.start();
navigation.start();
shortcuts.start(() => preferences.wishes.shortcuts);
live.listen();
void session.start();

const target = document.querySelector('#app');
if (target) mount(App, { target });
