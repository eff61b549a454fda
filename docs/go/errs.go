package constructs

import (
	"errors"
	"log"
)

// show
func read(c conn) []byte {
	_, message, err := c.ReadMessage()
	var closed *closeError
	if errors.As(err, &closed) && closed.Code == 1006 {
		log.Printf("no close frame: %v", err)
	}
	return message
}
