package constructs

import "time"

// show
func awaitPongs(c conn, wait time.Duration) {
	c.SetReadDeadline(time.Now().Add(wait))
	c.SetPongHandler(func(string) error {
		return c.SetReadDeadline(time.Now().Add(wait))
	})
}
